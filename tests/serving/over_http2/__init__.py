"""The wire: HTTP/2 (RFC 9113) and gRPC's framing, by frames that no client library would send, over every transport."""
