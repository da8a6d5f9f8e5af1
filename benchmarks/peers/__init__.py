"""Servers that stand beside ours in a benchmark."""
