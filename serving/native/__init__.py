"""The native transport: gRPC, HTTP/2 and HTTP/1.1 on one port, several times as fast as grpcio's asyncio server.

Sockets, TLS and timers are uvloop's; HTTP/2 is libnghttp2's; between them a small compiled module (`src/`) does gRPC's
framing, so that Python is entered once for all the requests that one turn of the event loop brought. Read in this
order: `server` (ports and turns), `door` (which protocol a new connection speaks), `connection`, `calls` (gRPC) and
`asgi` (all other HTTP/2).
"""
