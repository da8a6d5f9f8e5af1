"""Parts of the benchmark `generation`."""
