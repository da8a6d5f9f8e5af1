"""The parts of the benchmark `vectors`: collections beside bare FAISS, other libraries, and databases."""
