"""Realistic data, models and requests for the benchmarks, made from seeds."""
