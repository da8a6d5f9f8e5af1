"""Models that live on Triton servers: how they are declared, the wire, and which of several servers is asked."""
