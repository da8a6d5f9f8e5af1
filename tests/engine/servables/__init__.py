"""Tests of every kind of servable; `contract` is what all of them pass."""
