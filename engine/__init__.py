"""Vireo's core: serves models without knowing any network or host. Importing it loads no heavy library.

What is named here is the surface that everything outside the core uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from engine import limits
from engine.clock import NEVER_NS, Clock, Deadline, monotonic
from engine.control.book import IndexEntry
from engine.control.model_config import ConfigReader, ConfigTensor, EnsembleStep, ModelConfig
from engine.control.repository import Repository
from engine.control.rollout import served_versions
from engine.description import ModelDescription
from engine.duration import duration_us
from engine.encoders.cache import EncodingCache
from engine.engine import Engine
from engine.errors import (
    Cancelled,
    DataLoss,
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
from engine.features.instant import instant_us
from engine.features.lookup import FeatureView, ViewStatistics
from engine.features.store import FeatureStore
from engine.generation.call import Chunks, GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.declaration import LanguageModelSpec
from engine.generation.language_model import LanguageModel, ModelCard
from engine.generation.sse import EventReader, event_bytes
from engine.generation.statistics import GenerationStatistics
from engine.generation.store import LanguageModels
from engine.generation.upstream.declaration import TargetSpec, UpstreamSpec
from engine.log.declaration import ShardSpec
from engine.log.log import Appended, Chunk, DeadLetter
from engine.log.token import offsets_of, token_of
from engine.optimization.record import LOSSES, STEPS, told_of
from engine.placement import INGRESS, AutoscalingSpec, DeploymentSpec, deployment_of, fingerprint_of, shard_name
from engine.provenance import sha256_of
from engine.request import BATCH, INTERACTIVE, Layout, Ledger, Parameter, Request, Response, Stage
from engine.scheduling.job import Job
from engine.servables.linked import Answered, Described, DescribedLanguage, LanguageLink, Link, LinkCall
from engine.servables.signature import Signature, TensorSpec
from engine.spec import (
    AuthSpec,
    ServerSpec,
    Spec,
    TlsSpec,
    TracingSpec,
    VersionSpec,
    load_spec,
    parse_spec,
    spec_as_plain,
    spec_of_plain,
)
from engine.table_files import PARQUET_SUFFIX, TABLE_SUFFIXES, endings
from engine.telemetry import BUCKETS_S, Duration, Histogram, ModelStatistics, quantile_s
from engine.tensor import BF16, BYTES, DATATYPES, Array, DataType, Tensor, datatype_named, element_count
from engine.triton.statistics import ServerCounts, ServerStatistics
from engine.vectors.declaration import (
    CollectionSpec,
    EmbedderSpec,
    FieldSpec,
    IndexSpec,
    QuotaSpec,
    SparseSpec,
    VectorSpec,
    VectorStoreSpec,
)
from engine.vectors.description import CollectionDescription
from engine.vectors.store import VectorStore
from engine.work import Work, current_work

if TYPE_CHECKING:
    from engine.documents.declaration import DocumentsSpec
    from engine.documents.ingestion import Ingestion, ingestion_of
    from engine.documents.points import PassagePoint
    from engine.documents.reader import DocumentReader
    from engine.documents.reading import DOCUMENT_KINDS, read_document
    from engine.documents.splitter import ChunkBounds, split_document
    from engine.experiments.estimates import Difference
    from engine.experiments.reading import Exposures, exposures_in, exposures_of, outcomes_in
    from engine.experiments.report import experiment_report
    from engine.experiments.results import ExperimentQuestion, ExperimentReport, LeftOut, VariantResult
    from engine.features.compilation import compile_view
    from engine.features.history import History
    from engine.features.probe import Probe, probe_skew
    from engine.features.sharded_view import ShardedView
    from engine.features.skew import FeatureSkew
    from engine.features.state import FeatureState
    from engine.generation.upstream.model import UpstreamModel
    from engine.graph.outline import GraphOutline, NodeOutline, outline
    from engine.graph.plan import Node, Plan
    from engine.kernel_parts import FEATURE_KERNELS, KERNEL_PARTS, PROCESSORS, compile_kernels
    from engine.kinds import decodable
    from engine.log.disk import put_in_place, sync_folder
    from engine.log.export import export_log, rows_of_log
    from engine.log.folder import lock_file
    from engine.log.payload_arrow import arrow_stream
    from engine.optimization.optimize import OptimizationSource, OptimizationWish, WrittenVersion, open_source, optimize
    from engine.optimization.rewrite import RewriteOptions
    from engine.optimization.samples import Samples
    from engine.scheduling.streamed import streamed
    from engine.servables.feature_lookup import FeatureLookup
    from engine.vectors.any_collection import AnyCollection
    from engine.vectors.collection import Collection
    from engine.vectors.collection_info import CollectionInfo, PartInfo
    from engine.vectors.filter import (
        AnyOf,
        Condition,
        Filter,
        GeoBox,
        GeoPolygon,
        GeoRadius,
        Group,
        HasId,
        HasWords,
        IsEmpty,
        IsNull,
        Match,
        MinShould,
        NoneOf,
        Range,
        ValuesCount,
    )
    from engine.vectors.filter_parse import parse_filter
    from engine.vectors.followed import FollowedCollection
    from engine.vectors.found import Found
    from engine.vectors.found_elsewhere import AnyFound
    from engine.vectors.gpu_index import GpuIndex
    from engine.vectors.gpu_placing import KernelDevice
    from engine.vectors.plain_points import points_of
    from engine.vectors.plain_spec import as_plain, collection_spec_of
    from engine.vectors.query import (
        DenseLeg,
        Diversity,
        GroupBy,
        Hit,
        Leg,
        MaxSim,
        PointId,
        Query,
        RankFusion,
        RecommendLeg,
        ScoreFusion,
        SearchParams,
        SparseLeg,
        TextLeg,
    )
    from engine.vectors.recall import RecallCount
    from engine.vectors.rows import field_column, indices_column, points_schema, values_column, vector_column
    from engine.vectors.sharded import ShardedCollection
    from engine.vectors.store_folder import SnapshotInfo
    from engine.vectors.writer import Written

__all__ = [
    "BATCH",
    "BF16",
    "BUCKETS_S",
    "BYTES",
    "DATATYPES", "DOCUMENT_KINDS", "FEATURE_KERNELS",
    "INGRESS",
    "INTERACTIVE", "KERNEL_PARTS",
    "LOSSES", "NEVER_NS",
    "PARQUET_SUFFIX", "PROCESSORS",
    "STEPS",
    "TABLE_SUFFIXES",
    "Answered",
    "AnyCollection", "AnyFound", "AnyOf", "Appended",
    "Array", "AuthSpec",
    "AutoscalingSpec",
    "Cancelled",
    "Chunk", "ChunkBounds", "Chunks",
    "Clock",
    "Collection",
    "CollectionDescription",
    "CollectionInfo",
    "CollectionSpec",
    "Condition",
    "ConfigReader",
    "ConfigTensor",
    "DataLoss",
    "DataType",
    "DeadLetter",
    "Deadline",
    "DeadlineExceeded",
    "DenseLeg",
    "DeploymentSpec",
    "Described", "DescribedLanguage",
    "Difference",
    "Diversity",
    "DocumentReader", "DocumentsSpec",
    "Duration",
    "EmbedderSpec",
    "EncodingCache", "Engine", "EnsembleStep",
    "EventReader",
    "ExperimentQuestion",
    "ExperimentReport",
    "Exposures",
    "FailedPrecondition",
    "FeatureLookup",
    "FeatureRows",
    "FeatureSkew",
    "FeatureState",
    "FeatureStore",
    "FeatureView",
    "FieldSpec", "Filter",
    "FollowedCollection",
    "Found",
    "GenerationAnswer",
    "GenerationCall",
    "GenerationKind",
    "GenerationStatistics",
    "GeoBox", "GeoPolygon", "GeoRadius",
    "GpuIndex",
    "GraphOutline", "Group", "GroupBy",
    "HasId", "HasWords",
    "Histogram",
    "History",
    "Hit",
    "IndexEntry",
    "IndexSpec", "Ingestion",
    "Internal", "InvalidArgument",
    "IsEmpty", "IsNull", "Job",
    "KernelDevice",
    "LanguageLink", "LanguageModel",
    "LanguageModelSpec",
    "LanguageModels",
    "Layout", "Ledger",
    "LeftOut",
    "Leg", "Link", "LinkCall",
    "Match",
    "MaxSim",
    "MinShould",
    "ModelCard", "ModelConfig", "ModelDescription", "ModelLoadError", "ModelStatistics",
    "Node", "NodeOutline", "NoneOf", "NotFound",
    "OptimizationSource", "OptimizationWish",
    "Parameter",
    "PartInfo", "PassagePoint",
    "Plan",
    "PointId", "Probe",
    "Query", "QuotaSpec",
    "Range",
    "RankFusion",
    "RecallCount",
    "RecommendLeg",
    "Repository",
    "Request",
    "ResourceExhausted",
    "Response",
    "RewriteOptions", "Samples",
    "ScoreFusion",
    "SearchParams",
    "ServerCounts", "ServerSpec", "ServerStatistics",
    "ShardSpec", "ShardedCollection", "ShardedView",
    "Signature",
    "SnapshotInfo",
    "SparseLeg", "SparseSpec", "Spec", "SpecError",
    "Stage",
    "TargetSpec", "Tensor", "TensorSpec", "TextLeg",
    "TlsSpec", "TooLarge",
    "TracingSpec",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UpstreamModel",
    "UpstreamSpec",
    "ValuesCount",
    "VariantResult",
    "VectorSpec",
    "VectorStore",
    "VectorStoreSpec",
    "VersionSpec",
    "ViewStatistics",
    "VireoError",
    "Work", "Written", "WrittenVersion",
    "arrow_stream",
    "as_plain",
    "collection_spec_of",
    "compile_kernels", "compile_view",
    "current_work",
    "datatype_named", "decodable", "deployment_of",
    "duration_us", "element_count",
    "endings",
    "event_bytes",
    "experiment_report",
    "export_log",
    "exposures_in",
    "exposures_of",
    "field_column",
    "fingerprint_of",
    "indices_column", "ingestion_of", "instant_us",
    "limits",
    "load_spec",
    "lock_file",
    "monotonic",
    "nearest",
    "offsets_of", "open_source", "optimize",
    "outcomes_in", "outline",
    "parse_filter", "parse_spec",
    "points_of", "points_schema",
    "probe_skew", "put_in_place",
    "quantile_s", "quoted",
    "read_document", "rows_of_log", "served_versions", "sha256_of", "shard_name",
    "spec_as_plain", "spec_of_plain", "split_document",
    "streamed", "sync_folder",
    "token_of", "told_of",
    "values_column", "vector_column",
]  # fmt: skip

_LATER = {
    "ChunkBounds": "engine.documents.splitter",
    "DOCUMENT_KINDS": "engine.documents.reading",
    "DocumentReader": "engine.documents.reader",
    "DocumentsSpec": "engine.documents.declaration",
    "Ingestion": "engine.documents.ingestion",
    "PassagePoint": "engine.documents.points",
    "ingestion_of": "engine.documents.ingestion",
    "read_document": "engine.documents.reading",
    "split_document": "engine.documents.splitter",
    "UpstreamModel": "engine.generation.upstream.model",
    "AnyOf": "engine.vectors.filter",
    "AnyCollection": "engine.vectors.any_collection",
    "AnyFound": "engine.vectors.found_elsewhere",
    "FollowedCollection": "engine.vectors.followed",
    "ShardedCollection": "engine.vectors.sharded",
    "Collection": "engine.vectors.collection",
    "CollectionInfo": "engine.vectors.collection_info",
    "Condition": "engine.vectors.filter",
    "DenseLeg": "engine.vectors.query",
    "Difference": "engine.experiments.estimates",
    "Diversity": "engine.vectors.query",
    "ExperimentQuestion": "engine.experiments.results",
    "ExperimentReport": "engine.experiments.results",
    "Exposures": "engine.experiments.reading",
    "FeatureLookup": "engine.servables.feature_lookup",
    "FeatureSkew": "engine.features.skew",
    "FeatureState": "engine.features.state",
    "Filter": "engine.vectors.filter",
    "Found": "engine.vectors.found",
    "GeoBox": "engine.vectors.filter",
    "GeoPolygon": "engine.vectors.filter",
    "GeoRadius": "engine.vectors.filter",
    "GpuIndex": "engine.vectors.gpu_index",
    "GraphOutline": "engine.graph.outline",
    "Group": "engine.vectors.filter",
    "GroupBy": "engine.vectors.query",
    "HasId": "engine.vectors.filter",
    "HasWords": "engine.vectors.filter",
    "History": "engine.features.history",
    "Hit": "engine.vectors.query",
    "IsEmpty": "engine.vectors.filter",
    "IsNull": "engine.vectors.filter",
    "KernelDevice": "engine.vectors.gpu_placing",
    "LeftOut": "engine.experiments.results",
    "Leg": "engine.vectors.query",
    "Match": "engine.vectors.filter",
    "MaxSim": "engine.vectors.query",
    "MinShould": "engine.vectors.filter",
    "Node": "engine.graph.plan",
    "NodeOutline": "engine.graph.outline",
    "NoneOf": "engine.vectors.filter",
    "PartInfo": "engine.vectors.collection_info",
    "Plan": "engine.graph.plan",
    "PointId": "engine.vectors.query",
    "Probe": "engine.features.probe",
    "Query": "engine.vectors.query",
    "Range": "engine.vectors.filter",
    "RankFusion": "engine.vectors.query",
    "RecallCount": "engine.vectors.recall",
    "RecommendLeg": "engine.vectors.query",
    "ScoreFusion": "engine.vectors.query",
    "SearchParams": "engine.vectors.query",
    "ShardedView": "engine.features.sharded_view",
    "SnapshotInfo": "engine.vectors.store_folder",
    "SparseLeg": "engine.vectors.query",
    "TextLeg": "engine.vectors.query",
    "ValuesCount": "engine.vectors.filter",
    "VariantResult": "engine.experiments.results",
    "Written": "engine.vectors.writer",
    "arrow_stream": "engine.log.payload_arrow",
    "as_plain": "engine.vectors.plain_spec",
    "collection_spec_of": "engine.vectors.plain_spec",
    "compile_view": "engine.features.compilation",
    "decodable": "engine.kinds",
    "OptimizationSource": "engine.optimization.optimize",
    "OptimizationWish": "engine.optimization.optimize",
    "FEATURE_KERNELS": "engine.kernel_parts",
    "KERNEL_PARTS": "engine.kernel_parts",
    "PROCESSORS": "engine.kernel_parts",
    "RewriteOptions": "engine.optimization.rewrite",
    "Samples": "engine.optimization.samples",
    "WrittenVersion": "engine.optimization.optimize",
    "open_source": "engine.optimization.optimize",
    "optimize": "engine.optimization.optimize",
    "rows_of_log": "engine.log.export",
    "compile_kernels": "engine.kernel_parts",
    "experiment_report": "engine.experiments.report",
    "export_log": "engine.log.export",
    "exposures_in": "engine.experiments.reading",
    "exposures_of": "engine.experiments.reading",
    "field_column": "engine.vectors.rows",
    "indices_column": "engine.vectors.rows",
    "lock_file": "engine.log.folder",
    "outcomes_in": "engine.experiments.reading",
    "outline": "engine.graph.outline",
    "parse_filter": "engine.vectors.filter_parse",
    "points_of": "engine.vectors.plain_points",
    "put_in_place": "engine.log.disk",
    "points_schema": "engine.vectors.rows",
    "probe_skew": "engine.features.probe",
    "streamed": "engine.scheduling.streamed",
    "sync_folder": "engine.log.disk",
    "values_column": "engine.vectors.rows",
    "vector_column": "engine.vectors.rows",
}
"""Where names are that need numba or Arrow, or that few ask for: loaded when they are first asked for."""


if not TYPE_CHECKING:  # where types are checked, names that are not there stay unknown

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        if name not in _LATER:
            raise AttributeError(f"module 'engine' has no attribute '{name}'")
        found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
        return found
