"""Tests of queue, batcher, admission, estimate and worker."""
