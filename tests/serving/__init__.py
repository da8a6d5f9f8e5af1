"""Tests of the fronts: real servers, and clients as people already have them."""
