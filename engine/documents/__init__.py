"""Documents on their way into a collection: read, split into passages, made points."""
