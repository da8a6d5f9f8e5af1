"""On which device ONNX models run: execution providers as a spec declares them, and as ONNX Runtime is told."""
