"""Experiments read: who was given which variant of a split, what came of it, and whether that is a difference."""
