"""Tests of the HTTP front: unmodified clients, plain requests, and bytes that no client would send."""
