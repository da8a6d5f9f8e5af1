"""Batch inference: a model or graph over files of rows, resumable, with bounded memory and an even pace."""
