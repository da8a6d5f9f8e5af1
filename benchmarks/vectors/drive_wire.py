"""Driver `wire`: fills the collection that a server is then started on.

The order: `spec` (an app's), `collection`, `vectors` (.npy).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.vectors.collections import load, parts_of, settle
from engine import Engine, parse_spec


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """Its parts."""
    engine = Engine(parse_spec(yaml.safe_dump(order["spec"], sort_keys=False), folder=Path()))
    engine.start()
    try:
        collection = engine.vectors.collection(order["collection"])
        load(collection, np.load(order["vectors"], mmap_mode="r"), {})
        settle(collection)
        return {"parts": parts_of(collection)}
    finally:
        engine.close()


if __name__ == "__main__":
    print(json.dumps(drive(json.load(sys.stdin))))
