"""Recommendation: from a user to a ranked, diverse and explained list, in one graph."""
