"""The gRPC engine of the generator in C++, compiled when it is first needed: a sixth to two thirds of Python's CPU.

Read in this order: `frame.hpp` (bytes), `head.hpp` (response headers), `wire.hpp` (one HTTP/2 connection), `pump.hpp`
(sockets), `generator.cpp` (who sends when), `engine` (the same from Python), `build` (the compiler).
`null_server.cpp` answers everything at once and shows what the generator can offer: see `benchmarks.peers.null_server`.
"""
