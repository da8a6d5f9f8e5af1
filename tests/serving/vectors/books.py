"""Three books, and the collection they are kept in."""

from __future__ import annotations

from typing import Any

SPEC = """
server:
  grpc_port: 0
  http_port: 0
  flight_port: 0
vectors:
  path: collections
  collections:
    declared:
      vectors: {v: {size: 4}}
"""

PLAIN_SPEC: dict[str, Any] = {
    "vectors": {"v": {"size": 4}, "tokens": {"size": 2, "metric": "dot", "multi": True}},
    "sparse": {"s": {}},
    "fields": {
        "title": {"type": "text"},
        "price": {"type": "float"},
        "pages": {"type": "integer"},
        "tags": {"type": "keyword", "array": True},
        "author": {"type": "keyword"},
        "sold": {"type": "bool"},
        "at": {"type": "datetime"},
        "where": {"type": "geo"},
    },
}

Stub = Any
"""Of the service; generated code has no types."""


def books() -> list[dict[str, Any]]:
    """As the HTTP endpoint takes them."""
    return [
        {
            "id": 1,
            "vector": {"v": [1, 0, 0, 0], "s": {"indices": [1, 5], "values": [0.5, 1]}, "tokens": [[1, 0], [0, 1]]},
            "payload": {
                "title": "The red house", "price": 3.5, "pages": 100, "tags": ["old", "novel"], "author": "a",
                "sold": True, "at": "2026-01-01T00:00:00Z", "where": {"lat": 48.1, "lon": 11.5},
            },
        },
        {
            "id": 2,
            "vector": {"v": [0, 1, 0, 0], "s": {"indices": [5], "values": [3]}, "tokens": [[1, 1]]},
            "payload": {"title": "A blue car", "price": 7, "pages": 200, "tags": ["novel"], "author": "a"},
        },
        {"id": 3, "vector": {"v": [1, 1, 0, 0]}, "payload": {"title": "Red cars", "price": 11, "author": "b"}},
    ]  # fmt: skip
