"""What a request can reach: one contract (`servable`), one file for each kind."""
