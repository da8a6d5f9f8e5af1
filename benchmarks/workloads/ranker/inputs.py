"""Where the ranker and its requests lie; they are made where they are missing, in a second."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.workloads.ranker.network import MODEL, make_network, to_onnx
from benchmarks.workloads.ranker.requests import request_frames

RANKER = ROOT / ".cache" / "ranker"
SEED = 1


@dataclass(frozen=True, slots=True)
class RankerInputs:
    """A model repository with `ranker/1`, and gRPC frames that rotate through varied candidates."""

    models: Path
    frames: Path

    @property
    def model_file(self) -> Path:
        """The ONNX file."""
        return self.models / MODEL / "1" / "model.onnx"


def ranker_inputs(root: Path = RANKER, seed: int = SEED) -> RankerInputs:
    """The inputs under `root`. The frames come last: who finds them finds the model."""
    inputs = RankerInputs(root / "models", root / "requests.frames")
    if not (inputs.frames.exists() and inputs.model_file.exists()):
        inputs.model_file.parent.mkdir(parents=True, exist_ok=True)
        inputs.model_file.write_bytes(to_onnx(make_network(seed=seed)).SerializeToString(deterministic=True))
        unfinished = inputs.frames.with_suffix(".tmp")
        unfinished.write_bytes(request_frames(seed=seed))
        unfinished.replace(inputs.frames)
    return inputs
