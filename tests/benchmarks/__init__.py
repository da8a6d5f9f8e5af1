"""Tests of the benchmarks: the load generator above all, since every figure rests on it."""
