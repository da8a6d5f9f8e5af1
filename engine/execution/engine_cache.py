"""Where TensorRT's engines are kept: a folder for each GPU, TensorRT, model and profile, that is whole or not there.

ONNX Runtime writes an engine straight to the file it will read it from, and refuses one that it finds half written. It is given a
draft to write to, which takes the folder's name in one step when the session is made: all engines are built then, as every
session has a profile for each input that varies, and none is written later. One process builds at a time, the others wait for it.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from engine.errors import ModelLoadError, VireoError
from engine.execution.declaration import ProviderSpec
from engine.execution.options import CACHE_KEYS, EngineCache, Profile, Told, cache_key
from engine.provenance import sha256_of, versions_of

log = logging.getLogger("vireo.engine")

Session = TypeVar("Session")

_GPUS: Final = Path("/proc/driver/nvidia/gpus")
_MAPS: Final = Path("/proc/self/maps")
_LIBRARIES: Final = ("onnxruntime-gpu", "onnxruntime")
_TENSORRT: Final = "libnvinfer.so."
_UNREADABLE: Final = "could not deserialize engine"
"""What ONNX Runtime says of an engine that TensorRT cannot read."""


def engine_folder(files: Sequence[Path], gpus: Path = _GPUS, maps: Path = _MAPS) -> EngineCache:
    """Gives the folder of an engine for the model in `files`, its own and those with its weights; None where no cache is
    declared. Raises ModelLoadError for a calibration table that cannot be read."""

    def folder(spec: ProviderSpec, profile: Profile) -> str | None:
        if spec.tensorrt is None or spec.tensorrt.cache is None:
            return None
        versions = (f"{name} {version}" for name, version in versions_of(_LIBRARIES).items())
        facts = [*map(sha256_of, files), *_table(spec.tensorrt.int8_table), *gpu_names(gpus), *versions]
        facts.append(f"TensorRT {tensorrt_version(maps)}")
        return str(Path(spec.tensorrt.cache).absolute() / cache_key(profile, facts, spec.tensorrt))

    return folder


def _table(path: str | None) -> list[str]:
    """What the calibration table says: it may be written anew under the same name."""
    try:
        return [] if path is None else [f"int8 {sha256_of(Path(path))}"]
    except OSError as error:
        raise ModelLoadError(f"tensorrt.int8_table: {path}: cannot be read: {error.strerror}") from error


def gpu_names(gpus: Path) -> list[str]:
    """The models of this machine's GPUs, as NVIDIA's driver tells them under `gpus`; none without it."""
    lines = (line for each in sorted(gpus.glob("*/information")) for line in each.read_text().splitlines())
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def tensorrt_version(maps: Path = _MAPS) -> int | None:
    """Of the TensorRT that this process has loaded, as its own library tells it (10.14.1 is 101401), wherever it came from; None
    before it is. `maps`: of what a process has loaded, as Linux lists it."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return None
    paths = (line.split(maxsplit=5)[-1] for line in lines if _TENSORRT in line)
    for path in dict.fromkeys(each for each in paths if Path(each).name.startswith(_TENSORRT)):
        try:
            return int(ctypes.CDLL(path).getInferLibVersion())
        except (OSError, AttributeError):  # such as one that was removed since
            continue
    return None


def built(asked: Sequence[Told], make: Callable[[Sequence[Told]], Session]) -> Session:
    """What `make` makes of `asked`, whose engines are taken from their folder, or are there when this returns. Waits for as long
    as another process builds the same. Raises what `make` raises, and ModelLoadError where the folder cannot be made.

    What `make` returns may have been given a draft's name, which is no more: it is not to write there later.
    """
    folder = next((Path(options[CACHE_KEYS[0]]) for _, options in asked if CACHE_KEYS[0] in options), None)
    if folder is None:
        return make(asked)
    unreadable = None
    if folder.is_dir():
        unreadable = folder.stat().st_ino
        try:
            return make(asked)
        except VireoError as error:
            if _UNREADABLE not in error.message:
                raise
            log.warning("%s: built anew, as it cannot be read: %s", folder, error.message)
    try:
        return _built_alone(asked, make, folder, unreadable)
    except OSError as error:
        raise ModelLoadError(f"tensorrt.cache: {folder}: cannot be made: {error.strerror}") from error


def _built_alone(
    asked: Sequence[Told], make: Callable[[Sequence[Told]], Session], folder: Path, unreadable: int | None
) -> Session:
    import shutil  # and a few libraries for archives, which who has no engine does without

    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            if folder.stat().st_ino != unreadable:  # another process has made it meanwhile
                return make(asked)
            shutil.rmtree(folder)
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was ended, or it would hold the lock
        draft.mkdir()
        try:
            made = make([(name, _moved(options, draft)) for name, options in asked])
            if any(draft.glob("*.engine")):
                _publish(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return made


def _moved(options: dict[str, str], draft: Path) -> dict[str, str]:
    return {key: str(draft) if key in CACHE_KEYS else value for key, value in options.items()}


def _publish(draft: Path, folder: Path) -> None:
    for each in draft.iterdir():
        _sync(each)
    _sync(draft)
    draft.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: waits for another process that builds this engine", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
