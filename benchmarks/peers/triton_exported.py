"""An application's own models on a real Triton: exported by Vireo, run in the Python backend, and named in the spec instead."""

import json
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.graphs.running import Declared
from benchmarks.peers.triton import MODEL_CODE
from engine import Engine, parse_spec
from serving.model_config import read_config
from serving.triton_export import CONFIG, export_triton

IN_PROCESS = ("repository", "models")
"""Keys of a spec that say which models run in the process."""


def export_models(spec: Declared, folder: Path, out: Path) -> list[str]:
    """The models of a spec in `folder` as `vireo export-triton` writes them, but for the Python backend; their names."""
    models = {key: spec[key] for key in IN_PROCESS if key in spec}
    engine = Engine(parse_spec(json.dumps(models), folder=folder), read_config=read_config)
    try:
        engine.start()
        export_triton(engine, out, "onnxruntime")
    finally:
        engine.close()
    names = sorted(each.name for each in out.iterdir())
    for name in names:
        to_python_backend(out / name)
    return names


def to_python_backend(model: Path) -> None:
    """Has an exported model run in Triton's Python backend, where ONNX Runtime's is missing; the rest of its config stays."""
    config = text_format.Parse((model / CONFIG).read_text(), model_config_pb2.ModelConfig())
    config.platform, config.backend, config.default_model_filename = "", "python", ""
    (model / CONFIG).write_text(text_format.MessageToString(config))
    for version in model.glob("[0-9]*"):
        shutil.copyfile(MODEL_CODE, version / "model.py")


def on_triton(spec: Declared, address: str, names: list[str]) -> Declared:
    """The spec with the first version of these models on the Triton at HOST:PORT instead of in the process; all else as it is."""
    kept = {key: each for key, each in spec.items() if key not in IN_PROCESS}
    return {**kept, "triton_models": {name: {"servers": [address], "version": 1} for name in names}}
