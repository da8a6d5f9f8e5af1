"""`vireo ingest`: documents into a collection."""
