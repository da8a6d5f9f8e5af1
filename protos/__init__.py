"""Vireo's own wire services: .proto files and the Python code protoc makes of them (`make protos`), checked for drift."""
