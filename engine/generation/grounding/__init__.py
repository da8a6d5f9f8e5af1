"""Grounded generation: passages found for a question, a prompt made of them, and an answer that cites them and nothing else."""
