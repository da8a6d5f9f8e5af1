"""Where TensorRT's engines are kept: a folder for each GPU, version, model and profile, which is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.errors import ModelLoadError
from engine.execution.declaration import ProviderSpec
from engine.execution.options import EngineCache, Profile, cache_key
from engine.provenance import sha256_of, versions_of

_GPUS: Final = Path("/proc/driver/nvidia/gpus")
_LIBRARIES: Final = ("onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-cu12", "tensorrt-cu13")


def engine_folder(files: Sequence[Path], gpus: Path = _GPUS) -> EngineCache:
    """Gives the folder of an engine for the model in `files`, its own and those with its weights, made; None where no cache is
    declared. Raises ModelLoadError."""

    def folder(spec: ProviderSpec, profile: Profile) -> str | None:
        if spec.tensorrt is None or spec.tensorrt.cache is None:
            return None
        versions = (f"{name} {version}" for name, version in versions_of(_LIBRARIES).items())
        facts = [*map(sha256_of, files), *gpu_names(gpus), *versions]
        made = Path(spec.tensorrt.cache) / cache_key(profile, facts, spec)
        try:
            made.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelLoadError(f"tensorrt.cache: {made}: cannot be made: {error.strerror}") from error
        return str(made)

    return folder


def gpu_names(gpus: Path) -> list[str]:
    """The models of this machine's GPUs, as NVIDIA's driver tells them under `gpus`; none without it."""
    lines = (line for each in sorted(gpus.glob("*/information")) for line in each.read_text().splitlines())
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
