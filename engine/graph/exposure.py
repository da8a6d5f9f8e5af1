"""Who got which variant of a split, as it is told to an experiment's log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True)  # not frozen: once a request
class Exposure:
    """A request, or those of its rows with `keys`, got `variant`, and was answered at `at_us`, microseconds since the Unix epoch.

    `keys` None: it was by chance. One row of the log a key.
    """

    experiment: str
    variant: str
    keys: list[bytes] | None
    request_id: str
    at_us: int

    @property
    def maker(self) -> ExposureMaker:
        """What makes columns of it."""
        return EXPOSURES

    @property
    def count(self) -> int:
        """Rows."""
        return 1 if self.keys is None else len(self.keys)

    def singles(self) -> list[Exposure]:
        """Each row alone."""
        return [self] if self.keys is None else [replace(self, keys=[each]) for each in self.keys]


class ExposureMaker:
    """Makes rows of exposures, with those columns that the log has."""

    def batch(self, rows: Sequence[Exposure], schema: pa.Schema) -> pa.RecordBatch:
        """All of them. Raises InvalidArgument where a column is of another type."""
        import pyarrow as pa

        from engine.graph.record_columns import text_of, words_of

        counts = [each.count for each in rows]
        words: dict[str, list[str | int]] = {
            "experiment": [each.experiment for each in rows],
            "variant": [each.variant for each in rows],
            "request_id": [each.request_id for each in rows],
            "time": [each.at_us for each in rows],
        }
        columns, fields = [], []
        for field in schema:
            if field.name == "key":
                keys = [key for each in rows for key in each.keys or [None]]  # type: ignore[list-item]
                texts = [None if each is None else text_of(each.decode("utf-8", "backslashreplace")) for each in keys]
                columns.append(pa.array(texts, pa.string()))
            elif field.name in words:
                columns.append(words_of(words[field.name], counts, field))
            else:
                continue
            fields.append(field)
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


EXPOSURES: Final = ExposureMaker()
