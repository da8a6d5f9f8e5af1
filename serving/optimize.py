"""`vireo optimize`: what it is asked on the command line, and what it tells."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine import (
    LOSSES,
    STEPS,
    FailedPrecondition,
    NotFound,
    Repository,
    Spec,
    SpecError,
    load_spec,
    nearest,
    quoted,
    served_versions,
    told_of,
)

if TYPE_CHECKING:
    from engine import ModelDescription, OptimizationSource, OptimizationWish, Samples, WrittenVersion


def add_optimize_options(command: argparse.ArgumentParser) -> None:
    """What `vireo optimize` is asked, after the spec."""
    command.add_argument("model", metavar="MODEL", help="an ONNX model of the repository")
    command.add_argument("--step", required=True, choices=STEPS)
    command.add_argument(
        "--max-loss", required=True, type=_bounds, metavar="NAME=VALUE,...",
        help=f"what may be lost at most, or nothing is written: {', '.join(LOSSES)}",
    )  # fmt: skip
    data = command.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--data", type=Path, metavar="PATH", help="real inputs: Parquet or Arrow files, or an .npz archive"
    )
    data.add_argument("--log", metavar="NAME", help="real inputs: rows of a log of the spec")
    command.add_argument(
        "--columns", type=_pairs, default={}, metavar="INPUT=COLUMN,...", help="where a column is not named as its input"
    )  # fmt: skip
    command.add_argument("--group", metavar="COLUMN", help="rows with one value of it are ranked among each other")
    command.add_argument(
        "--outcome", metavar="COLUMN", help="0 or 1, what became of a row: tells the AUC before and after"
    )
    command.add_argument("--score", metavar="OUTPUT", help="the output that ranks, where several could")
    command.add_argument("--top-k", type=_whole, default=10, metavar="K", help="of each group (default: %(default)s)")
    command.add_argument(
        "--model-version", type=_whole, metavar="N", help="to begin with (default: the newest original)"
    )
    command.add_argument("--calibration-rows", type=_whole, default=512, metavar="N", help="(default: %(default)s)")
    command.add_argument("--judged-rows", type=_whole, default=8192, metavar="N", help="(default: %(default)s)")
    command.add_argument(
        "--request-rows", type=_sizes, default=(1, 64), metavar="N,...", help="rows of the requests timed (default: 1,64)"
    )  # fmt: skip
    command.add_argument("--level", choices=("basic", "extended", "all"), default="extended", help="of --step graph")
    command.add_argument("--per-tensor", action="store_true", help="INT8: one scale for all of a layer's weights")
    command.add_argument(
        "--keep-float", type=_names, metavar="NODE,...", help="INT8: nodes to leave alone (default: the last ones); '' for none"
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="the record as JSON")


def run_optimize(arguments: argparse.Namespace) -> int:
    """Writes the version and says what became of it. Raises VireoError."""
    for module in ("pyarrow", "onnx", "onnxruntime"):
        if not find_spec(module):
            raise SpecError(f"optimize needs {module}, which is not installed; pip install 'vireo[cpu,features]'")
    from engine import optimize

    spec = load_spec(arguments.app)
    source = _source(spec, arguments.model, arguments.model_version)
    try:
        written = optimize(source, _samples(spec, source, arguments), _wish(arguments))
    finally:
        source.close()
    if arguments.json:
        print(
            json.dumps({"version": written.version, "folder": str(written.folder)} | json.loads(written.record.text()))
        )
    else:
        print("\n".join(_told(spec, arguments.model, written)))
    return 0


def unserved_texts(spec: Spec, served: Iterable[ModelDescription]) -> Iterator[str]:
    """Of each version that was written here and is not among the `served`, what is known of it."""
    if spec.repository is None:
        return
    known = {(each.name, each.version) for each in served}
    for name, model in _repository(spec).scan().items():
        for number, version in model.versions.items():
            if version.derived and (name, number) not in known:
                notes, _ = told_of(version.path)
                yield "\n".join([f"{name} version {number}: not served", *(f"  note: {each}" for each in notes)])


def _source(spec: Spec, model: str, version: int | None) -> OptimizationSource:
    from engine import open_source

    if spec.repository is None:
        raise FailedPrecondition("optimize: the spec has no repository, where versions could be written")
    root = spec.path(spec.repository.path)
    found = _repository(spec).find(model)
    if found.problem:
        raise FailedPrecondition(f"model {quoted(model)}: {found.problem}")
    originals = [number for number, each in found.versions.items() if not each.derived and each.problem is None]
    if version is None:
        if not originals:
            raise NotFound(
                f"model {quoted(model)} has no version that optimize did not write itself; say --model-version"
            )
        version = max(originals)
    if version not in found.versions:
        raise NotFound(
            f"model {quoted(model)} has no version {version}; there are {', '.join(map(str, sorted(found.versions)))}"
        )
    file = found.versions[version]
    if file.problem:
        raise FailedPrecondition(f"model {quoted(model)}: {file.problem}")
    threads = spec.models[model].threads if model in spec.models else 1
    rows_max = found.config.rows_max if found.config else None
    return open_source(root / model, version, file.path, threads=threads, rows_max=rows_max)


def _repository(spec: Spec) -> Repository:
    from serving.model_config import read_config

    assert spec.repository is not None
    return Repository(spec.path(spec.repository.path), read_config)


def _samples(spec: Spec, source: OptimizationSource, arguments: argparse.Namespace) -> Samples:
    from serving.optimize_samples import SampleColumns, check_columns, samples_in, samples_of_log

    columns = SampleColumns(arguments.columns, arguments.group, arguments.outcome)
    signature = source.servable.signature
    check_columns(columns, signature)
    if arguments.log is not None:
        return samples_of_log(spec, arguments.log, arguments.model, signature, columns)
    return samples_in(arguments.data, arguments.model, signature, columns)


def _wish(arguments: argparse.Namespace) -> OptimizationWish:
    from engine import OptimizationWish, RewriteOptions

    return OptimizationWish(
        arguments.step,
        arguments.max_loss,
        RewriteOptions(arguments.level, not arguments.per_tensor, arguments.keep_float),
        arguments.score,
        arguments.top_k,
        arguments.calibration_rows,
        arguments.judged_rows,
        arguments.request_rows,
    )


def _told(spec: Spec, model: str, written: WrittenVersion) -> list[str]:
    served = served_versions(spec, _repository(spec).find(model))
    if written.version in served:
        live = "the version policy serves it from the next start, load or poll on"
    else:
        live = f"not served, as no version policy says so: models.{model}.versions: {{specific: [{written.version}]}} would"
    return [f"{written.folder}: {live}", *(f"  {each}" for each in written.record.lines())]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_whole(each.strip()) for each in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (each.strip() for each in text.split(","))))


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for each in _names(text):
        name, _, value = each.partition("=")
        if not (name and value):
            raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {each!r}")
        pairs[name] = value
    return pairs


def _bounds(text: str) -> dict[str, float]:
    bounds = {}
    for name, value in _pairs(text).items():
        if name not in LOSSES:
            raise argparse.ArgumentTypeError(f"no loss {name!r}{nearest(name, LOSSES)}")
        try:
            bounds[name] = float(value)
        except ValueError:
            bounds[name] = -1.0
        if not 0 <= bounds[name] < float("inf"):
            raise argparse.ArgumentTypeError(f"'{name}={value}' is not a bound from 0 on")
    return bounds
