"""Candidates: features gathered for them, slates chosen of them."""
