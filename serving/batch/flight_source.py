"""An Arrow Flight stream as a batch run's input: `grpc://HOST:PORT/TICKET`, fetched by DoGet.

To go on after a kill the stream is fetched again and its first rows are left out: the server must give the same rows again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import flight

from engine import InvalidArgument, Unavailable, quoted
from serving.batch.source import Rows

SCHEMES: Final = ("grpc://", "grpc+tcp://", "grpc+tls://", "grpc+unix://")


class FlightStream:
    """A Source. The ticket is what follows the address, percent-decoded."""

    def __init__(self, location: str) -> None:
        """Raises InvalidArgument, Unavailable."""
        scheme, _, rest = location.partition("://")
        address, slash, ticket = rest.partition("/")
        if not address or not slash or not ticket:
            raise InvalidArgument(f"--input: expected {scheme}://HOST:PORT/TICKET, got {quoted(location)}")
        self._address, self._ticket, self._name = f"{scheme}://{address}", unquote(ticket).encode(), location
        with self._reading() as reader:
            self.schema = reader.schema

    @property
    def rows(self) -> int | None:
        """See Source: nobody knows."""
        return None

    @property
    def identity(self) -> dict[str, Any]:
        """See Source."""
        return {self._name: {"columns": str(self.schema.remove_metadata())}}

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with closing(flight.connect(self._address)) as client:
                yield client.do_get(flight.Ticket(self._ticket))
        except (pa.ArrowException, OSError) as error:
            raise Unavailable(f"--input: {self._name}: {str(error).splitlines()[0]}") from error

    def read(self, first: int, columns: Sequence[str], rows_max: int) -> Iterator[Rows]:
        """See Source. Raises Unavailable where the stream breaks, InvalidArgument where it is no valid Arrow."""
        at = 0
        with self._reading() as reader:
            for chunk in reader:
                batch = chunk.data
                if batch is None:
                    continue
                begin, at = at, at + batch.num_rows
                if at <= first:
                    continue
                batch.validate(full=True)
                wanted = batch.select(list(columns))
                for there in range(max(0, first - begin), batch.num_rows, rows_max):
                    yield Rows(wanted.slice(there, rows_max), begin + there, self._name, begin + there)
