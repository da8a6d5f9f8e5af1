"""The Ray host, on a real cluster of this machine."""
