"""Vireo's core: serves models without knowing any network or host. Importing it loads no heavy library.

What is named here is the surface that everything outside the core uses.
"""

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
from engine.request import Layout, Ledger, Parameter, Request, Response
from engine.scheduling.job import Job
from engine.servables.signature import Signature, TensorSpec
from engine.spec import AuthSpec, ServerSpec, Spec, TlsSpec, VersionSpec, load_spec, parse_spec
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

__all__ = [
    "BF16", "BUCKETS_S", "BYTES", "DATATYPES", "NEVER_NS", "Array", "AuthSpec", "Cancelled", "Clock", "ConfigReader",
    "ConfigTensor", "DataType", "Deadline", "DeadlineExceeded", "Duration", "Engine", "FailedPrecondition",
    "Histogram", "IndexEntry", "Internal", "InvalidArgument", "Job", "Layout", "Ledger", "ModelConfig", "ModelDescription",
    "ModelLoadError", "ModelStatistics", "NotFound", "Parameter", "Request", "ResourceExhausted", "Response",
    "ServerSpec", "Signature", "Spec", "SpecError", "Tensor", "TensorSpec", "TlsSpec", "TooLarge", "Unauthenticated",
    "Unavailable", "Unimplemented", "VersionSpec", "VireoError", "bfloat16_values", "datatype_named", "element_count",
    "limits", "load_spec", "monotonic", "nearest", "parse_spec", "quoted",
]  # fmt: skip
