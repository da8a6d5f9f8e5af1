"""Texts to vectors, and pairs of texts to scores, by ONNX models: what is declared, tokens, batches by tokens, pooling."""
