"""What the benchmark `recommendation` is made of."""
