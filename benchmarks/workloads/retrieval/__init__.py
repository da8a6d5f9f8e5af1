"""Vectors that collections are judged on: WordNet's glosses embedded by all-MiniLM-L6-v2, and clustered synthetic ones."""
