"""What one run of the generator is asked to do."""

from dataclasses import dataclass
from enum import StrEnum

INFER_PATH = "/inference.GRPCInferenceService/ModelInfer"


class Protocol(StrEnum):
    """How requests travel."""

    GRPC = "grpc"
    HTTP = "http"


class Engine(StrEnum):
    """What carries an order out. NATIVE is compiled C++ and speaks gRPC only; both mean the same by every figure."""

    NATIVE = "native"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """One run. Exactly one of `rate_per_s` (open loop) and `callers` (closed loop) is set.

    `warmup_s` comes before `duration_s` and is left out of every figure. `deadline_ms` bounds goodput; `target_ms`
    asks for a verdict on the `percent` percentile. `timeout_ms` is sent as grpc-timeout. `core` pins the generator, which
    stays awake for `spin_us` before a send is due; in a closed loop, where that is any time, throughout (0: never).
    `window_bytes` is the receive window we grant, per stream and per connection. `engine` None takes the native one for
    gRPC where there is a compiler, else the Python one.
    """

    port: int
    frames: str
    protocol: Protocol = Protocol.GRPC
    host: str = "127.0.0.1"
    path: str = INFER_PATH
    rate_per_s: float | None = None
    callers: int | None = None
    duration_s: float = 5.0
    warmup_s: float = 1.0
    drain_s: float = 5.0
    seed: int = 1
    connections: int = 8
    core: int | None = None
    spin_us: int = 1_000_000
    deadline_ms: float | None = None
    target_ms: float | None = None
    percent: float = 99.0
    timeout_ms: int | None = None
    window_bytes: int = 2**31 - 1
    samples: str | None = None
    engine: Engine | None = None

    def __post_init__(self) -> None:
        if (self.rate_per_s is None) == (self.callers is None):
            raise ValueError("set either rate_per_s (open loop) or callers (closed loop)")
        if min(self.duration_s, self.connections, self.rate_per_s or 1, self.callers or 1) <= 0 or self.warmup_s < 0:
            raise ValueError("rate, callers, duration and connections must be above zero, warm-up not below")
        if self.engine is Engine.NATIVE and self.protocol is Protocol.HTTP:
            raise ValueError("the native engine speaks gRPC only")
