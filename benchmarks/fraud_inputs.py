"""Where the fraud model and its requests lie; they are built once by `benchmarks.workloads.fraud`."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT

MODEL = "fraud"
INPUT = "features"
OUTPUT = "fraud_probability"
FRAUD = ROOT / ".cache" / "fraud"


@dataclass(frozen=True, slots=True)
class FraudInputs:
    """A model repository with `fraud/1` and `fraud/2`, and gRPC frames that rotate through varied rows."""

    models: Path
    frames: Path

    def model_file(self, version: int) -> Path:
        """The ONNX file of one version."""
        return self.models / MODEL / str(version) / "model.onnx"


def fraud_inputs(root: Path = FRAUD) -> FraudInputs:
    """The inputs under `root`, built now if they are missing (a minute or two, once)."""
    inputs = FraudInputs(root / "models", root / "requests.frames")
    if not (inputs.frames.exists() and inputs.model_file(1).exists()):
        command = [sys.executable, "-m", "benchmarks.workloads.fraud", "--out", str(root)]
        subprocess.run(command, cwd=ROOT, check=True)
    return inputs
