"""Kernels for GPUs, in Triton the language: exact and quantised nearest neighbours. Only this folder knows torch and triton.

Importing any file but this one loads both. `kernels.reference_gpu` has the readable twins.
"""
