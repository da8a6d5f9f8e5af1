"""A load generator in a process of its own: open loop (Poisson) or closed loop, over gRPC or HTTP/1.1.

Two engines carry an order out and mean the same by every figure, which one suite of tests holds them to: `native`, in
C++, for gRPC; Python, for HTTP and where there is no compiler. A result names the one that ran.

Read in this order: `order` (what is asked), `schedule` (when each request is due), `frames` and `tensor_body` (what is
sent), `plan` (all of that for one run), `http2` and `http1` (bytes in, answers out), `pump` (sockets), `loops` (who
sends when), `python_engine` (the four put together) and `native` (the four in C++), `samples`, `outcome`, `latency`,
`verdict` and `result` (what came of it), `run`. `process` runs it all as a child; `python -m benchmarks.load --help`.
"""
