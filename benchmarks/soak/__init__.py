"""Hours in minutes: callers of every kind, most of them rude, on one server; and what becomes of its memory meanwhile."""
