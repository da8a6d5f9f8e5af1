"""Nearest neighbours on a GPU beside the time it takes to read the data once."""
