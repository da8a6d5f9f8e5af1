"""What is learnt of WordNet's labelled pairs: a small cross-encoder."""
