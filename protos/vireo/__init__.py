"""Package `vireo` on the wire."""
