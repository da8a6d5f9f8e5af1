"""Tests of `engine/`, folder by folder."""
