"""Recommendation ranking: a small dense network as ONNX scores 100 candidates a request; requests from seeded features."""
