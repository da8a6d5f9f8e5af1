"""From an admitted request to a computed batch: admission, queue and batcher decide, the worker does."""
