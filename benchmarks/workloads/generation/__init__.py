"""Generation: a small real language model, out of a package, for vLLM."""
