"""Runs one driver: `python -m benchmarks.features.driver NAME` reads its order (JSON) and prints what it found (JSON)."""

import importlib
import sys

import msgspec


def main() -> None:
    """Read, run, print."""
    module = importlib.import_module(f"benchmarks.features.drive_{sys.argv[1]}")
    found = module.drive(msgspec.json.decode(sys.stdin.buffer.read()))
    print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main()
