"""Card transactions from the `synccfd` simulator as columns in time order. The one file that knows synccfd and pandas."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

START = "2025-01-01"
DAY_S = 86_400
SEED = 42

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Simulation:
    """How many take part for how long. synccfd fixes most draws itself; `seed` moves where everybody is."""

    customers: int = 1500
    terminals: int = 3000
    days: int = 70
    seed: int = SEED

    @property
    def name(self) -> str:
        """A file name that no other simulation has."""
        return f"transactions-{self.customers}-{self.terminals}-{self.days}-{self.seed}.npz"


@dataclass(frozen=True, slots=True)
class Transactions:
    """One row a transaction, ordered by `time_s` (seconds since midnight of START). Places are degrees.

    `amount_cents` is whole, so sums over it are exact. `fraud` is the truth, which an issuer learns only days later.
    """

    time_s: Ints
    customer: Ints
    terminal: Ints
    amount_cents: Ints
    card_present: NDArray[np.bool_]
    fraud: NDArray[np.bool_]
    billing_latitude: Floats
    billing_longitude: Floats
    shipping_latitude: Floats
    shipping_longitude: Floats
    terminal_latitude: Floats
    terminal_longitude: Floats

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def day(self) -> Ints:
        """Days since START."""
        return self.time_s // DAY_S

    def take(self, rows: Ints) -> "Transactions":
        """These rows, in this order."""
        return Transactions(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def load_transactions(simulation: Simulation, folder: Path) -> Transactions:
    """The simulation's transactions, from a file in `folder`; simulated and stored there if it is missing."""
    file = folder / simulation.name
    if file.exists():
        with np.load(file) as stored:
            return Transactions(**stored)
    made = run_simulation(simulation)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp.npz")
    np.savez_compressed(
        unfinished, allow_pickle=False, **{each.name: getattr(made, each.name) for each in fields(made)}
    )
    unfinished.replace(file)
    return made


def run_simulation(simulation: Simulation) -> Transactions:
    """Simulate; half a minute for 200,000 transactions. Seeds the global generators, as synccfd does."""
    from synccfd import DatasetGenerator

    with _silence():
        generator = DatasetGenerator(
            n_customers=simulation.customers,
            n_terminals=simulation.terminals,
            nb_days=simulation.days,
            start_date=START,
            random_state=simulation.seed,
        )
        _, _, frame = generator.generate()
    return from_frame(frame)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without synccfd's progress bars and pandas' warnings to it."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def from_frame(frame: Any) -> Transactions:  # noqa: ANN401 - a pandas DataFrame, untyped here
    """synccfd's frame as columns. It is sorted anew: moving stolen cards' transactions leaves it out of order."""
    frame = frame.sort_values(["TX_TIME_SECONDS", "TRANSACTION_ID"], kind="stable")

    def column(name: str) -> Any:  # noqa: ANN401
        return frame[name].to_numpy()

    return Transactions(
        time_s=column("TX_TIME_SECONDS").astype(np.int64),
        customer=column("CUSTOMER_ID").astype(np.int64),
        terminal=column("TERMINAL_ID").astype(np.int64),
        amount_cents=np.rint(column("TX_AMOUNT") * 100).astype(np.int64),
        card_present=column("TX_TYPE") == "CP",
        fraud=column("TX_FRAUD") == 1,
        billing_latitude=column("TX_BILL_LAT"),
        billing_longitude=column("TX_BILL_LONG"),
        shipping_latitude=column("TX_SHIPP_LAT"),
        shipping_longitude=column("TX_SHIPP_LONG"),
        terminal_latitude=column("TX_TERM_LAT"),
        terminal_longitude=column("TX_TERM_LONG"),
    )
