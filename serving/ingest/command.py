"""`vireo ingest`: its options, and what it tells."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from engine import DOCUMENT_KINDS, InvalidArgument, Spec, SpecError, ingestion_of
from serving.batch.progress import clock_text
from serving.ingest.files import files_in, told
from serving.long_run import Said, ServerAddress, Stopped, token_in, until_signal

if TYPE_CHECKING:
    from serving.ingest.run import IngestRun
    from serving.ingest.target import Target

Load = Callable[[Path], Spec]

_COMMAND = "vireo ingest"


def add_ingest_options(ingest: argparse.ArgumentParser) -> None:
    """The options of `vireo ingest`, after the spec."""
    ingest.add_argument(
        "collection", metavar="COLLECTION", help="a vector collection; 'documents' of the spec says how"
    )
    kinds = ", ".join(DOCUMENT_KINDS)
    ingest.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help=f"a file, or a folder of files that end with {kinds}"
    )
    ingest.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="call documents as they are from here on (default: as paths are written)",
    )
    ingest.add_argument(
        "--prune", action="store_true", help="delete documents of the folders named that are not in them any more"
    )
    ingest.add_argument(
        "--url", metavar="URL", help="a running server that has the collection (default: an engine here)"
    )
    ingest.add_argument("--tenant", help="whose documents they are, where the collection has tenants")
    ingest.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust the server of an https:// URL by this certificate"
    )
    ingest.add_argument("--token-env", metavar="VARIABLE", help="environment variable with the bearer token for --url")
    ingest.add_argument("--json", action="store_true", help="print a summary as one line of JSON")


def run_ingest(arguments: argparse.Namespace, load: Load) -> int:
    """Runs: 0 when every document is there as it is now, 1 when some could not be read, 128 + the signal's number where one ended
    it. Raises VireoError."""
    if not find_spec("pyarrow"):
        raise SpecError("ingest needs Apache Arrow, which is not installed; pip install 'vireo[features]'")
    from serving.ingest.run import IngestRun

    files = files_in(arguments.paths, arguments.root)
    spec = load(arguments.app)
    with until_signal() as (stop, caught), closing(_target(arguments, spec)) as target:
        said = Said(_COMMAND)
        ingestion = ingestion_of(spec, arguments.collection, target.collection)
        run = IngestRun(target, ingestion, files, stop, lambda name, problem: said.line(f"{told(name)}: {problem}"))
        try:
            run.run(said, prune=arguments.prune)
        except Stopped:
            pass
        finally:
            said.end()
        return _tell(arguments, run, said, caught)


def _target(arguments: argparse.Namespace, spec: Spec) -> Target:
    if arguments.url is None:
        from serving.ingest.target import EngineTarget

        if arguments.ca or arguments.token_env:
            raise InvalidArgument("--ca and --token-env are for --url")
        return EngineTarget(spec, arguments.collection, arguments.tenant)
    from serving.ingest.remote import ServerTarget

    address = ServerAddress(arguments.url, arguments.ca, token_in(arguments.token_env))
    return ServerTarget(address, arguments.collection, arguments.tenant)


def _tell(arguments: argparse.Namespace, run: IngestRun, said: Said, caught: list[int]) -> int:
    counts, progress = run.counts, run.progress()
    if arguments.json:
        print(orjson.dumps({
            "collection": arguments.collection, "complete": not caught, "documents": counts.documents,
            "unchanged": counts.unchanged, "passages_written": counts.written, "passages_deleted": counts.deleted,
            "pruned": counts.pruned,
            "problems": {told(name): each for name, each in counts.problems.items()},
            "seconds": round(progress.elapsed_s, 3),
        }).decode())  # fmt: skip
    how = f"{progress.line()} in {clock_text(progress.elapsed_s)}"
    if caught:
        said.line(f"stopped after {how}; the same command goes on from there")
        return 128 + caught[0]
    said.line(f"{arguments.collection}: {how}")
    return 1 if counts.problems else 0
