"""Benchmarks: what is measured, on which data, beside which rival; every figure can be repeated from its report."""
