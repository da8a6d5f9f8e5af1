"""Where the ranker and its requests lie; they are made where they are missing, in a second."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.workloads.ranker.network import MODEL, NETWORKS, make_network, to_onnx
from benchmarks.workloads.ranker.requests import request_frames

CACHE = ROOT / ".cache"
SEED = 1


@dataclass(frozen=True, slots=True)
class RankerInputs:
    """A model repository with one version of `model`, and gRPC frames that rotate through varied candidates."""

    models: Path
    frames: Path
    model: str = MODEL

    @property
    def model_file(self) -> Path:
        """The ONNX file."""
        return self.models / self.model / "1" / "model.onnx"


def ranker_inputs(root: Path | None = None, seed: int = SEED, model: str = MODEL) -> RankerInputs:
    """The inputs under `root` for one of NETWORKS. The frames come last: who finds them finds the model."""
    root = root or CACHE / model
    inputs = RankerInputs(root / "models", root / "requests.frames", model)
    if not (inputs.frames.exists() and inputs.model_file.exists()):
        inputs.model_file.parent.mkdir(parents=True, exist_ok=True)
        network = make_network(sizes=NETWORKS[model], seed=seed)
        inputs.model_file.write_bytes(to_onnx(network).SerializeToString(deterministic=True))
        unfinished = inputs.frames.with_suffix(".tmp")
        unfinished.write_bytes(request_frames(model=model, seed=seed))
        unfinished.replace(inputs.frames)
    return inputs
