"""Tests of the load generator: its pure parts without I/O, the whole against servers in other processes."""
