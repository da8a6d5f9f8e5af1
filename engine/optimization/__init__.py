"""Versions of ONNX models written from other versions: faster or smaller, with what that costs beside them."""
