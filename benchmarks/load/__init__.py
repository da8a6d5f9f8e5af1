"""A load generator in a process of its own: open loop (Poisson) or closed loop, over gRPC or HTTP/1.1.

Read in this order: `order` (what is asked), `schedule` (when each request is due), `frames` and `tensor_body` (what is
sent), `http2` and `http1` (bytes in, answers out), `pump` (sockets), `loops` (who sends when), `samples`, `latency`,
`verdict` and `result` (what came of it). `process` runs it all as a child; `python -m benchmarks.load --help`.
"""
