"""Where a report's tables come from: the exposure log of a spec's split, or files. Loads Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, nearest, quoted
from engine.log.columns import column_of, instants
from engine.log.past import open_past, read_log
from engine.log.schema import arrow_schema
from engine.table_files import ARROW_SUFFIXES, PARQUET_SUFFIX, endings

if TYPE_CHECKING:
    from engine.spec import Spec


@dataclass(frozen=True, slots=True)
class Exposures:
    """Who was given which variant of one experiment: columns variant, key, time. `weights` None: not declared here."""

    experiment: str
    table: pa.Table
    weights: Mapping[str, float] | None

    def since(self, instant_us: int) -> Exposures:
        """Those from then on."""
        late = pc.greater_equal(instants(self.table, "time"), instant_us)
        return Exposures(self.experiment, self.table.filter(late), self.weights)


def exposures_of(spec: Spec, experiment: str | None = None) -> Exposures:
    """All that the log of a split of `spec` keeps; of the only split with `exposures` where none is named.

    The log may be in use: nothing of it is changed. Raises NotFound for a split or log that is not there, FailedPrecondition
    for one without `exposures`, InvalidArgument where several have them and none is named.
    """
    told = {name: each for name, each in spec.traffic.items() if each.exposures is not None}
    name = _chosen(experiment, list(told), list(spec.traffic))
    split = spec.traffic[name]
    if split.exposures is None:
        raise FailedPrecondition(f"split {quoted(name)} keeps no exposures; declare 'exposures: LOG'")
    declared = spec.logs[split.exposures]
    log = open_past(declared, arrow_schema(declared.schema, f"logs.{split.exposures}.schema"), spec.path)
    try:
        table = read_log(log)
    finally:
        log.close()
    return Exposures(name, _only(table, name), {each: variant.weight for each, variant in split.variants.items()})


def exposures_in(path: Path, experiment: str | None = None) -> Exposures:
    """Those in a file (see `read_file`) with the columns of an exposure log, as `vireo export` writes it.

    Raises as `read_file`, and as `exposures_of` for the experiment.
    """
    table = read_file(path, "key")
    known = sorted(filter(None, column_of(table, "experiment").unique().to_pylist()))
    name = _chosen(experiment, known, known)
    return Exposures(name, _only(table, name), None)


def outcomes_in(path: Path, *, key: str = "key", time: str = "time") -> pa.Table:
    """A file's rows (see `read_file`), its columns `key` and `time` called just so, the others as they are."""
    table = read_file(path, key)
    named = {"key": column_of(table, key), "time": column_of(table, time)}
    return pa.table(
        named | {each: table.column(each) for each in table.column_names if each not in (*named, key, time)}
    )


def read_file(path: Path, key: str) -> pa.Table:
    """A Parquet or Arrow IPC file (see `engine.table_files`), or CSV with a header, whose column `key` is text as it stands.

    Raises NotFound where there is none, InvalidArgument for another kind of file, DataLoss for what cannot be read.
    """
    if not path.exists():
        raise NotFound(f"no file at {quoted(str(path))}")
    try:
        return _read(path, key)
    except (pa.ArrowException, OSError) as error:
        raise DataLoss(f"{quoted(str(path))} cannot be read: {error}") from error


def _read(path: Path, key: str) -> Any:  # noqa: ANN401  a pa.Table
    if path.suffix == PARQUET_SUFFIX:
        import pyarrow.parquet as pq

        return pq.read_table(path)
    if path.suffix in ARROW_SUFFIXES:
        import pyarrow.feather as feather

        return feather.read_table(path)
    if path.suffix == ".csv":
        from pyarrow import csv

        return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types={key: pa.string()}))
    raise InvalidArgument(f"{quoted(str(path))}: expected a name that ends with {endings('.csv')}")


def _chosen(experiment: str | None, told: list[str], known: list[str]) -> str:
    if experiment is not None:
        if experiment not in known:
            raise NotFound(f"no experiment {quoted(experiment)}{nearest(experiment, known)}")
        return experiment
    if not told:
        raise NotFound("no experiment has left exposures here")
    if len(told) > 1:
        raise InvalidArgument(f"which experiment? There are {', '.join(quoted(each) for each in told)}")
    return told[0]


def _only(table: pa.Table, experiment: str) -> pa.Table:
    chosen = table.filter(pc.equal(column_of(table, "experiment"), experiment))
    return pa.table({name: column_of(chosen, name) for name in ("variant", "key", "time")})
