"""Hosts and fronts: everything between a socket and `engine`."""
