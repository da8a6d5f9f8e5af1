"""How execution providers are declared in the spec. Frozen values; docs/reference/providers.md says what each key means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from engine.errors import nearest, quoted

NAMES: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""What ONNX Runtime calls them. Its own names do as well."""

_SUFFIX: Final = "ExecutionProvider"
_BYTES_MIN: Final = 1 << 20
_DEVICES_MAX: Final = 64
_LEVEL_MAX: Final = 5
_GRAPHS_MAX: Final = 16
"""Each has buffers of its own on the device."""


@dataclass(frozen=True, slots=True)
class CudaSpec:
    """CUDA. `arena_bytes_max`: of device memory that its arena takes, null for all; `arena_extend`: by how much it grows.
    `cudnn_search`: how convolutions are chosen. `tf32`: matrix products of FP32 in TensorFloat-32. `io_binding`: outputs are
    bound to the device and copied out once. `graph_rows`: numbers of rows for which a CUDA graph is captured."""

    device_id: int = 0
    arena_bytes_max: int | None = None
    arena_extend: Literal["next_power_of_two", "same_as_requested"] = "next_power_of_two"
    cudnn_search: Literal["exhaustive", "heuristic", "default"] = "exhaustive"
    tf32: bool = True
    io_binding: bool = True
    graph_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ShapeSpec:
    """The shapes of one input that an engine is built for, the batch dimension among them."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorRtSpec:
    """TensorRT. `cache`: folder in which engines and timings are kept, in one below it for each GPU, version and profile; null
    builds them at each load. `shapes`: by input, where more than the rows of a batch varies. `rows_opt`: rows that engines are
    tuned for, null for the largest batch. `int8_table`: calibration table; models written by `vireo optimize` need none.
    `io_binding`: as for CUDA."""

    device_id: int = 0
    cache: str | None = None
    fp16: bool = False
    int8: bool = False
    int8_table: str | None = None
    workspace_bytes_max: int | None = None
    builder_level: int = 3
    rows_opt: int | None = None
    io_binding: bool = True
    shapes: Mapping[str, ShapeSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """One of the two with its options. Not `required`: left out where it is not to be had."""

    cuda: CudaSpec | None = None
    tensorrt: TensorRtSpec | None = None
    required: bool = True

    @property
    def word(self) -> str:
        """Its name in the spec."""
        return "cuda" if self.cuda is not None else "tensorrt"


Providers = tuple[str | ProviderSpec, ...]
CPU: Final[Providers] = ("cpu",)


@dataclass(frozen=True, slots=True)
class ParitySpec:
    """How far what another provider says may lie from what the CPU says: `absolute` + `relative` times the CPU's value."""

    absolute: float = 1e-3
    relative: float = 1e-2


_WORDS: Final = {
    NAMES["cuda"]: ProviderSpec(cuda=CudaSpec()),
    NAMES["tensorrt"]: ProviderSpec(tensorrt=TensorRtSpec()),
}
"""What a word alone declares."""


def declared_by(provider: str | ProviderSpec) -> ProviderSpec | None:
    """Its options, those of a word being the defaults; None of one that has none."""
    return _WORDS.get(onnx_name(provider)) if isinstance(provider, str) else provider


def onnx_name(provider: str | ProviderSpec) -> str:
    """What ONNX Runtime calls it."""
    word = provider if isinstance(provider, str) else provider.word
    return NAMES.get(word, word)


def provider_problems(providers: Providers, parity: ParitySpec | None = None) -> Iterator[tuple[str, str]]:
    """(key below the model's, what is wrong with it)."""
    if not providers:
        yield "providers", "at least one is needed, such as cpu"
    names = [onnx_name(each) for each in providers if isinstance(each, str) or each.cuda or each.tensorrt]
    for index, each in enumerate(providers):
        where = f"providers[{index}]"
        if isinstance(each, ProviderSpec):
            yield from _spec_problems(where, each)
        elif each not in NAMES and not each.endswith(_SUFFIX):
            yield where, f"unknown provider {quoted(each)}{nearest(each, NAMES)}"
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield "providers", f"{quoted(name)} is there twice"
    graphs = any(isinstance(each, ProviderSpec) and each.cuda and each.cuda.graph_rows for each in providers)
    if graphs and NAMES["tensorrt"] in names:
        yield "providers", "cuda.graph_rows needs every node on CUDA, but tensorrt is there as well"
    for key in ("absolute", "relative"):
        value = getattr(parity, key, 0.0)
        if not 0 <= value < float("inf"):
            yield f"parity.{key}", f"must be a number from 0 on, got {value}"


def _spec_problems(where: str, spec: ProviderSpec) -> Iterator[tuple[str, str]]:
    if (spec.cuda is None) == (spec.tensorrt is None):
        yield where, "give either 'cuda' or 'tensorrt'"
        return
    options = spec.cuda or spec.tensorrt
    assert options is not None
    ranges: dict[str, tuple[int, int]] = {
        "device_id": (0, _DEVICES_MAX - 1), "arena_bytes_max": (_BYTES_MIN, 1 << 50), "builder_level": (0, _LEVEL_MAX),
        "workspace_bytes_max": (_BYTES_MIN, 1 << 50), "rows_opt": (1, 1 << 20),
    }  # fmt: skip
    for key, (low, high) in ranges.items():
        value = getattr(options, key, None)
        if value is not None and not low <= value <= high:
            yield f"{where}.{spec.word}.{key}", f"must be from {low} to {high}, got {value}"
    if spec.cuda is not None and (problem := _graph_problem(spec.cuda)) is not None:
        yield f"{where}.cuda.graph_rows", problem
    if spec.tensorrt is not None and spec.tensorrt.int8_table is not None and not spec.tensorrt.int8:
        yield f"{where}.tensorrt.int8_table", "is for int8: true, but int8 is false"
    for name, shape in spec.tensorrt.shapes.items() if spec.tensorrt else ():
        yield from ((f"{where}.tensorrt.shapes.{name}", each) for each in _shape_problems(shape))


def _graph_problem(spec: CudaSpec) -> str | None:
    rows = spec.graph_rows
    if len(rows) > _GRAPHS_MAX or len(set(rows)) < len(rows) or any(each < 1 for each in rows):
        return f"must be at most {_GRAPHS_MAX} different numbers from 1 on, got {list(rows)}"
    return "CUDA graphs need io_binding" if rows and not spec.io_binding else None


def _shape_problems(shape: ShapeSpec) -> Iterator[str]:
    if not len(shape.min) == len(shape.opt) == len(shape.max):
        yield "min, opt and max have different numbers of dimensions"
    elif not all(1 <= low <= best <= high for low, best, high in zip(shape.min, shape.opt, shape.max, strict=True)):
        yield f"each size must be 1 <= min <= opt <= max, got {list(shape.min)}, {list(shape.opt)}, {list(shape.max)}"


def placed(providers: Providers, path_of: Callable[[str], Path]) -> Providers:
    """With the paths of their files, which `path_of` places. Absolute: ONNX Runtime looks for a table in the cache otherwise."""

    def of(path: str | None) -> str | None:
        return None if path is None else str(path_of(path).absolute())

    def one(each: str | ProviderSpec) -> str | ProviderSpec:
        if isinstance(each, str) or each.tensorrt is None:
            return each
        engine = each.tensorrt
        return replace(each, tensorrt=replace(engine, cache=of(engine.cache), int8_table=of(engine.int8_table)))

    return tuple(map(one, providers))


def names_told(providers: Sequence[str | ProviderSpec]) -> str:
    """In words, in their order."""
    return ", ".join(each if isinstance(each, str) else each.word for each in providers)
