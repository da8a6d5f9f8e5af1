"""What the logs and feature views of a spec must say of one another, checked with the place in the file. Pure.

What a view says of itself, in expressions and aggregations, is checked by compiling it, for which Arrow is loaded.
"""

from __future__ import annotations

import posixpath
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from engine.declaration import TensorDeclaration
from engine.duration import duration_us
from engine.errors import SpecError, nearest, quoted
from engine.features.declaration import FeatureViewSpec
from engine.features.instant import instant_us
from engine.limits import FEATURES_MAX, NAME_CHARS_MAX, SAMPLE_ROWS_MAX, SNAPSHOTS_KEPT_MAX
from engine.log.declaration import ColumnSpec, ColumnType, KafkaLogSpec, LogSpec
from engine.placement import SHARDS_MAX
from engine.strict_yaml import Place

if TYPE_CHECKING:
    from engine.features.view import View

Tensors = Mapping[str, TensorDeclaration | None]
"""By name; None where only loading tells what it is."""

LOOKUP_OUTPUTS = ("features", "valid", "event_time", "status")
"""What every lookup answers as a model."""

_COLUMN_TYPES = typing.get_args(ColumnType)


def check_logs(logs: Mapping[str, LogSpec], place: Place) -> None:
    """Raises SpecError where a log lives nowhere, in two places or in another's, or its columns are not what they seem."""
    for name, log in logs.items():
        where = f"logs.{name}"
        _check_name(name, where, place)
        if (log.local is None) == (log.kafka is None):
            raise SpecError(f"{place(where)}: give either 'local' or 'kafka'")
        _check_columns(log, f"{where}.schema", place)
        if log.local is not None:
            _in_range(place, f"{where}.local.segment_bytes", log.local.segment_bytes, 4096, 1 << 40)
        if log.kafka is not None:
            _check_kafka(log, log.kafka, f"{where}.kafka", place)
    paths = ((f"logs.{name}.local.path", log.local.path) for name, log in logs.items() if log.local)
    _check_alone("log", paths, place)


def _check_columns(log: LogSpec, where: str, place: Place) -> None:
    if not log.schema:
        raise SpecError(f"{place(where)}: a log needs at least one column")
    for name, column in log.schema.items():
        kind = column.type if isinstance(column, ColumnSpec) else column
        if kind not in _COLUMN_TYPES:
            raise SpecError(f"{place(f'{where}.{name}')}: unknown type {quoted(kind)}{nearest(kind, _COLUMN_TYPES)}")


def _check_kafka(log: LogSpec, kafka: KafkaLogSpec, where: str, place: Place) -> None:
    if (kafka.format == "avro") != (kafka.avro_schema is not None):
        raise SpecError(f"{place(f'{where}.avro_schema')}: belongs to format 'avro', and format 'avro' needs it")
    if kafka.shard is not None:
        _in_range(place, f"{where}.shard.of", kafka.shard.of, 1, SHARDS_MAX)
        _in_range(place, f"{where}.shard.number", kafka.shard.number, 0, kafka.shard.of - 1)
        if kafka.group is not None:
            raise SpecError(f"{place(f'{where}.shard')}: the partitions of a 'group' are its members' already")
    if kafka.key is not None and kafka.key not in log.schema:
        known = nearest(kafka.key, log.schema)
        raise SpecError(f"{place(f'{where}.key')}: the log has no column {quoted(kafka.key)}{known}")


def check_views(
    views: Mapping[str, FeatureViewSpec], logs: Mapping[str, LogSpec], functions: Collection[str], place: Place
) -> None:
    """Raises SpecError where a view's name, source, columns or files are not there or are another's."""
    for name, view in views.items():
        where = f"feature_views.{name}"
        _check_name(name, where, place)
        if name in functions:
            raise SpecError(f"{place(where)}: a function has that name; both are called by it")
        if view.source not in logs:
            raise SpecError(f"{place(f'{where}.source')}: no log {quoted(view.source)}{nearest(view.source, logs)}")
        _check_bounds(view, where, place)
        if view.bootstrap is not None and _is_shared(logs[view.source]):
            raise SpecError(
                f"{place(f'{where}.bootstrap')}: log {quoted(view.source)} is shared by a consumer group, so no process "
                f"could tell which of the table's entities are its own; set the log's 'group' to null"
            )
    snapshots = (
        (f"feature_views.{name}.snapshot.path", view.snapshot.path) for name, view in views.items() if view.snapshot
    )
    _check_alone("feature view", snapshots, place)
    letters = (
        (f"feature_views.{name}.dead_letters", view.dead_letters) for name, view in views.items() if view.dead_letters
    )
    _check_alone("feature view", letters, place)
    samples = ((f"feature_views.{name}.sample.path", view.sample.path) for name, view in views.items() if view.sample)
    _check_alone("feature view", samples, place)


def check_compiled(
    views: Mapping[str, FeatureViewSpec], logs: Mapping[str, LogSpec], place: Place
) -> dict[str, tuple[Tensors, Tensors]]:
    """The tensors that each view takes and gives as a servable. Raises SpecError where a view cannot be compiled, or where what
    is needed for views is not installed."""
    found: dict[str, tuple[Tensors, Tensors]] = {}
    if not logs:
        return found
    try:
        from engine.features.compilation import compile_view
        from engine.log.schema import arrow_schema
    except ImportError as error:
        raise SpecError(
            f"{place('logs')}: needs what is not installed; pip install 'vireo[features]': {error}"
        ) from error
    schemas = {name: arrow_schema(log.schema, place(f"logs.{name}.schema")) for name, log in logs.items()}
    for name, spec in views.items():
        where = f"feature_views.{name}"
        view = compile_view(name, spec, schemas[spec.source], partial(_place_below, place, where))
        for feature in view.features:
            if feature.text and feature.name in LOOKUP_OUTPUTS:
                raise SpecError(
                    f"{place(f'{where}.features.{feature.name}')}: a text feature is an output of its own, and every lookup has "
                    f"one of that name already"
                )
        if spec.snapshot is not None:
            every_us = _read(place, f"{where}.snapshot.every", duration_us, spec.snapshot.every)
            _in_range(place, f"{where}.snapshot.every", every_us / 1e6, 1, 86_400)
        if spec.bootstrap is not None:
            _read(place, f"{where}.bootstrap.until", instant_us, spec.bootstrap.until)
        found[name] = _lookup_tensors(view, logs[spec.source].schema.get(spec.entity))
    return found


def _lookup_tensors(view: View, entity: ColumnSpec | str | None) -> tuple[Tensors, Tensors]:
    """See servables/feature_lookup.py. What a derived entity is, is not known."""
    kind = entity.type if isinstance(entity, ColumnSpec) else entity
    width = len(view.features)
    key = TensorDeclaration("BYTES" if kind in ("string", "binary") else "INT64", (-1,))
    inputs: dict[str, TensorDeclaration | None] = {
        view.entity: None if kind is None else key,
        "as_of": TensorDeclaration("INT64", (-1,), optional=True),
    }
    for each in view.request:
        inputs[each.name] = TensorDeclaration("BYTES" if each.text else "FP64", (-1,), optional=True)
    features, valid, event_time, status = LOOKUP_OUTPUTS
    outputs: dict[str, TensorDeclaration | None] = {
        features: TensorDeclaration("FP64", (-1, width)),
        valid: TensorDeclaration("BOOL", (-1, width)),
        event_time: TensorDeclaration("INT64", (-1,)),
        status: TensorDeclaration("UINT8", (-1,)),
        **{each.name: TensorDeclaration("BYTES", (-1,)) for each in view.features if each.text},
    }
    return inputs, outputs


def _place_below(place: Place, where: str, key: str) -> str:
    return place(f"{where}.{key}")


def _read(place: Place, where: str, read: Callable[[str], int], text: str) -> int:
    try:
        return read(text)
    except SpecError as error:
        raise SpecError(f"{place(where)}: {error.message}") from error


def _check_bounds(view: FeatureViewSpec, where: str, place: Place) -> None:
    if not 1 <= len(view.features) <= FEATURES_MAX:
        raise SpecError(
            f"{place(f'{where}.features')}: a view has from 1 to {FEATURES_MAX} features, got {len(view.features)}"
        )
    _in_range(place, f"{where}.entities_max", view.entities_max, 1, 1 << 32)
    _in_range(place, f"{where}.timeout_ms", view.timeout_ms, 0.001, 86_400_000)
    if view.snapshot is not None:
        _in_range(place, f"{where}.snapshot.keep", view.snapshot.keep, 1, SNAPSHOTS_KEPT_MAX)
    if view.sample is not None:
        _in_range(place, f"{where}.sample.rows", view.sample.rows, 1, SAMPLE_ROWS_MAX)
    for name in view.request:
        if name in (view.entity, "as_of"):
            raise SpecError(f"{place(f'{where}.request.{name}')}: a lookup has an input of that name already")


def sharding_problem(view: FeatureViewSpec, log: LogSpec, *, gathered: bool) -> str | None:
    """Why the entities of a view cannot be shared out among processes by the key of its log; None where they can.

    `gathered`: whether a gather takes of it.
    """
    if log.kafka is None:
        return f"log {quoted(view.source)} is one process's folder; shards read a Kafka topic"
    if log.kafka.key != view.entity:
        given = "none" if log.kafka.key is None else quoted(log.kafka.key)
        return f"the 'key' of log {quoted(view.source)} must be its entity {quoted(view.entity)}, and is {given}"
    if log.kafka.group is not None:
        return f"the partitions of log {quoted(view.source)} are those of 'group' {quoted(log.kafka.group)}"
    if gathered:
        return "a gather takes of it, which reads its memory"
    for name in ("bootstrap", "dead_letters", "sample"):
        if getattr(view, name) is not None:
            return f"its {quoted(name)} is one process's"
    return None


def _is_shared(log: LogSpec) -> bool:
    return log.kafka is not None and log.kafka.group is not None


def _check_alone(kind: str, paths: Iterable[tuple[str, str]], place: Place) -> None:
    """Each path belongs to one `kind` only: two writers would spoil it for each other."""
    owners: dict[str, str] = {}
    for where, path in paths:
        first = owners.setdefault(posixpath.normpath(path), where)
        if first != where:
            raise SpecError(f"{place(where)}: {quoted(path)} is another {kind}'s already ({first})")


def _check_name(name: str, where: str, place: Place) -> None:
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise SpecError(f"{place(where)}: a name has from 1 to {NAME_CHARS_MAX} printable characters")


def _in_range(place: Place, where: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise SpecError(f"{place(where)}: must be from {low} to {high}, got {value}")
