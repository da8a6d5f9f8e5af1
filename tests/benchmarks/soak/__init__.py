"""The soak, without a server."""
