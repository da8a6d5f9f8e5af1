"""Compiled loops over arrays. They know nothing of anything else here."""
