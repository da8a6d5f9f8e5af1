"""The benchmark of vector collections, without its rivals."""
