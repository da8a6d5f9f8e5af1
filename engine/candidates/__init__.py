"""What is done with candidates between a search and the answer: their features gathered, a slate chosen of them."""
