"""Vireo's core: serves models without knowing any network or host. Importing it loads no heavy library.

What is named here is the surface that everything outside the core uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from engine import limits
from engine.clock import NEVER_NS, Clock, Deadline, monotonic
from engine.control.model_config import ConfigReader, ConfigTensor, ModelConfig
from engine.control.reconciler import IndexEntry
from engine.description import ModelDescription
from engine.engine import Engine
from engine.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ModelLoadError,
    NotFound,
    ResourceExhausted,
    SpecError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    nearest,
    quoted,
)
from engine.features.answer import FeatureRows
from engine.features.lookup import FeatureView, ViewStatistics
from engine.features.store import FeatureStore
from engine.log.log import Appended, Chunk, DeadLetter
from engine.request import BATCH, INTERACTIVE, Layout, Ledger, Parameter, Request, Response, Stage
from engine.scheduling.job import Job
from engine.servables.signature import Signature, TensorSpec
from engine.spec import AuthSpec, ServerSpec, Spec, TlsSpec, TracingSpec, VersionSpec, load_spec, parse_spec
from engine.telemetry import BUCKETS_S, Duration, Histogram, ModelStatistics
from engine.tensor import (
    BF16,
    BYTES,
    DATATYPES,
    Array,
    DataType,
    Tensor,
    bfloat16_values,
    datatype_named,
    element_count,
)
from engine.work import Work, current_work

if TYPE_CHECKING:
    from engine.features.compilation import compile_view
    from engine.features.history import History
    from engine.features.probe import Probe, probe_skew
    from engine.features.skew import FeatureSkew
    from engine.features.state import FeatureState
    from engine.graph.outline import GraphOutline, NodeOutline, outline
    from engine.servables.feature_lookup import FeatureLookup

__all__ = [
    "BATCH", "BF16", "BUCKETS_S", "BYTES", "DATATYPES", "INTERACTIVE", "NEVER_NS", "Appended", "Array", "AuthSpec",
    "Cancelled", "Chunk", "Clock", "ConfigReader", "ConfigTensor", "DataType", "DeadLetter", "Deadline",
    "DeadlineExceeded", "Duration", "Engine", "FailedPrecondition", "FeatureLookup", "FeatureRows", "FeatureSkew",
    "FeatureState", "FeatureStore", "FeatureView", "GraphOutline", "Histogram", "History", "IndexEntry", "Internal",
    "InvalidArgument", "Job", "Layout", "Ledger", "ModelConfig", "ModelDescription", "ModelLoadError",
    "ModelStatistics", "NodeOutline", "NotFound", "Parameter", "Probe", "Request", "ResourceExhausted", "Response",
    "ServerSpec", "Signature", "Spec", "SpecError", "Stage", "Tensor", "TensorSpec", "TlsSpec", "TooLarge",
    "TracingSpec", "Unauthenticated", "Unavailable", "Unimplemented", "VersionSpec", "ViewStatistics", "VireoError",
    "Work", "bfloat16_values", "compile_view", "current_work", "datatype_named", "element_count", "limits", "load_spec",
    "monotonic", "nearest", "outline", "parse_spec", "probe_skew", "quoted",
]  # fmt: skip

_LATER = {
    "FeatureLookup": "engine.servables.feature_lookup",
    "FeatureSkew": "engine.features.skew",
    "FeatureState": "engine.features.state",
    "GraphOutline": "engine.graph.outline",
    "History": "engine.features.history",
    "NodeOutline": "engine.graph.outline",
    "Probe": "engine.features.probe",
    "compile_view": "engine.features.compilation",
    "outline": "engine.graph.outline",
    "probe_skew": "engine.features.probe",
}
"""Where names are that need numba or Arrow, or that few ask for: loaded when they are first asked for."""


if not TYPE_CHECKING:  # where types are checked, names that are not there stay unknown

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        if name not in _LATER:
            raise AttributeError(f"module 'engine' has no attribute '{name}'")
        found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
        return found
