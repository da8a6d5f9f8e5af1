"""What a model repository folder holds. Reads folders and config files, never loads a model.

Layout, as Triton's: `<model>/<version>/model.onnx`, optionally `<model>/config.pbtxt`. Versions are whole numbers above
zero. An ensemble is its `config.pbtxt` alone; the empty version folder that Triton wants of it may be there or not. Nothing
may lead out of the model's own folder, by symlink or otherwise.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.control.model_config import ConfigReader, ModelConfig
from engine.errors import ModelLoadError, NotFound, SpecError, VireoError, quoted
from engine.graph.declaration import EnsembleSpec
from engine.limits import CONFIG_BYTES_MAX, NAME_CHARS_MAX, REPOSITORY_MODELS_MAX
from engine.optimization.record import RECORD_FILE

log = logging.getLogger("vireo.control")

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version folder: its model file, and a fingerprint that changes when any of its files does. `derived`: `vireo optimize`
    wrote it, from another version."""

    path: Path
    fingerprint: str
    problem: str | None = None
    derived: bool = False


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model folder. `problem` is why none of it can be served. `graph`: it is an ensemble, without versions of its own."""

    name: str
    versions: Mapping[int, FoundVersion] = field(default_factory=dict)
    config: ModelConfig | None = None
    config_fingerprint: str = ""
    problem: str | None = None
    graph: EnsembleSpec | None = None


class Repository:
    """One folder of models on disk."""

    def __init__(self, root: Path, read_config: ConfigReader | None) -> None:
        if not root.is_dir():
            raise SpecError(f"repository.path: {quoted(str(root))} is not a folder")
        self._root = root.resolve()
        self._read_config = read_config

    def scan(self) -> dict[str, FoundModel]:
        """Every model folder by name, but hidden ones and those whose name is no text.

        A broken one is there with its problem, so that it can be reported.
        """
        names = sorted(
            entry.name for entry in os.scandir(self._root) if _is_folder(entry) and _can_be_served(entry.name)
        )
        if len(names) > REPOSITORY_MODELS_MAX:
            raise SpecError(f"repository.path: {len(names)} models, at most {REPOSITORY_MODELS_MAX} are allowed")
        return {name: self._found(name) for name in names}

    def find(self, name: str) -> FoundModel:
        """One model folder; NotFound where the repository has none of that name."""
        listed = {entry.name for entry in os.scandir(self._root) if _is_folder(entry)} if name else set()
        if name not in listed or not _can_be_served(name):
            raise NotFound(f"model {quoted(name)} is not in the repository")
        return self._found(name)

    def _found(self, name: str) -> FoundModel:
        try:
            folder = _inside(self._root, self._root / name)
            if len(name) > NAME_CHARS_MAX:
                raise ModelLoadError(f"a model's name has at most {NAME_CHARS_MAX} characters")
            config, fingerprint = self._config(folder)
            if config is not None and config.steps:
                return configured(FoundModel(name), config, fingerprint)
            file_name = (config.file_name if config else "") or MODEL_FILE
            versions = {
                int(each): _version(folder, each, file_name) for each in sorted(os.listdir(folder)) if _is_version(each)
            }
        except (VireoError, OSError) as error:
            return FoundModel(name, problem=str(error))
        problem = None if versions else f"no version folder with {file_name} in it"
        return FoundModel(name, versions, config, fingerprint, problem)

    def _config(self, folder: Path) -> tuple[ModelConfig | None, str]:
        path = folder / CONFIG_FILE
        if not path.exists():
            return None, ""
        _inside(folder, path)
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ModelLoadError(f"{CONFIG_FILE}: larger than {CONFIG_BYTES_MAX} bytes")
        return self.parse_config(path.read_text(encoding="utf-8", errors="replace"), "pbtxt"), _stat(path)

    def parse_config(self, text: str, form: str) -> ModelConfig:
        """A model configuration given as text, through the reader the engine was built with."""
        if self._read_config is None:
            raise ModelLoadError(f"{CONFIG_FILE}: this engine was built without a reader for it")
        return self._read_config(text, form)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink that leads to itself
        return False


def _can_be_served(name: str) -> bool:
    if name.startswith("."):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes on disk that are not UTF-8, which no protocol could carry
        log.warning("repository: folder %r is left out: its name is not UTF-8", name)
        return False
    return True


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and not name.startswith("0") and len(name) < 19


def _version(folder: Path, version: str, file_name: str) -> FoundVersion:
    path = folder / version / file_name
    try:
        if Path(file_name).name != file_name:
            raise ModelLoadError(f"default_model_filename {quoted(file_name)} must be a plain file name")
        if not path.is_file():
            raise ModelLoadError(f"version {version} has no file {file_name}")
        inside = _inside(folder, path)
        files = sorted(each for each in (folder / version).rglob("*") if each.is_file())
    except (VireoError, OSError) as error:
        return FoundVersion(path, "", str(error))
    derived = any(each.name == RECORD_FILE for each in files)
    return FoundVersion(inside, ";".join(_stat(each) for each in files), derived=derived)


def _inside(folder: Path, path: Path) -> Path:
    """`path` with symlinks resolved; ModelLoadError where that is not inside `folder`."""
    resolved = Path(os.path.realpath(path))  # unlike resolve, it stands a symlink that leads to itself
    if not resolved.is_relative_to(folder):
        raise ModelLoadError(f"{quoted(path.name)} leads out of its folder")
    return resolved


def _stat(path: Path) -> str:
    found = path.stat()
    return f"{path.name}:{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"


def beside_old(new: FoundModel, old: FoundModel | None) -> FoundModel:
    """`new`, with the versions known before where it has a problem: a broken file takes nothing out of service."""
    if new.problem is None or old is None:
        return new
    if new.problem != old.problem:
        log.error("model %s: %s; what is loaded stays", new.name, new.problem)
    return replace(old, problem=new.problem)


def configured(model: FoundModel, config: ModelConfig, fingerprint: str) -> FoundModel:
    """`model` with another configuration than its folder's. Raises ModelLoadError where an ensemble makes no graph."""
    if config.steps:
        from engine.control.ensemble import ensemble_graph  # loaded where there is one

        return FoundModel(model.name, {}, config, fingerprint, graph=ensemble_graph(model.name, config))
    return FoundModel(model.name, model.versions, config, fingerprint, model.problem)
