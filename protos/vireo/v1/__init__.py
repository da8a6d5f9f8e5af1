"""Package `vireo.v1` on the wire: version 1, to which fields may be added but never changed."""
