"""Card fraud: simulated transactions, leak-free features, a LightGBM model as ONNX, and requests from its test rows."""
