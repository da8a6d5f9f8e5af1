"""What can be told about a model version: for metadata calls, the configuration call and `vireo explain`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.control.model_config import ModelConfig
from engine.scheduling.worker import WorkerOptions
from engine.servables.servable import Traits
from engine.servables.signature import Signature


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One ready version. `ready_versions` are all of its model's; `inline` says where its batches run now.

    `expected_us` is the learnt compute time by rows, in microseconds. `streams`: one request may have many responses.
    """

    name: str
    version: int
    ready_versions: tuple[int, ...]
    signature: Signature
    traits: Traits
    options: WorkerOptions
    batching: bool
    source: str
    config: ModelConfig | None
    expected_us: dict[int, float]
    streams: bool = False
    notes: tuple[str, ...] = ()
