"""Holds ARCHITECTURE.md's "Who may import whom" and STYLE.md's shape rules by reading the code, never by running it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("kernels", "engine", "serving", "benchmarks", "protos")
BANNED_IN_ENGINE = {
    "ray", "grpc", "grpc_health", "grpc_reflection", "starlette", "uvicorn", "uvloop", "fastapi", "aiohttp", "httpx",
    "flask", "httptools", "requests", "protos", "tritonclient", "google",
}  # fmt: skip
MESSAGES_OF_TRITON = "engine/triton/messages.py"
"""The one file of the engine that may import tritonclient, for its protobuf messages, and there only when used."""

OWNERS = {
    "ray": ("serving/ray_host/",),
    "hpack": ("engine/triton/hpack.py",),
    "vllm": ("engine/servables/vllm.py",),
    "faiss": ("engine/vectors/faiss_index.py", "engine/vectors/gpu_faiss.py"),
    "onnxruntime": (
        *(f"engine/servables/onnx{name}.py" for name in ("", "_binding", "_devices")),
        "engine/optimization/rewrite.py",
    ),
    "onnx": (
        *(f"engine/servables/onnx{name}.py" for name in ("", "_files", "_devices")),
        "engine/optimization/rewrite.py",
    ),
    "confluent_kafka": ("engine/log/kafka",),
    "opentelemetry": ("serving/tracing.py",),
    "httpx2": ("engine/generation/upstream/http_client.py",),
    "azure": ("engine/generation/upstream/entra.py",),
    "torch": ("kernels/gpu/",),
    "triton": ("kernels/gpu/",),
    "tokenizers": ("engine/encoders/tokens.py",),
    "markdown_it": ("engine/documents/markdown.py",),
    "selectolax": ("engine/documents/html.py",),
    "pypdf": ("engine/documents/pdf.py",),
    "scipy": ("engine/experiments/distributions.py",),
}
"""Which file (or folder, with a slash, or files that begin so) may import a heavy library. benchmarks/, tests/ are not asked."""

PURE = (
    *(f"engine/scheduling/{name}.py" for name in ("admission", "queue", "batcher", "estimate")),
    *(f"engine/control/{name}.py" for name in ("lifecycle", "rollout")),
    "engine/vectors/merge_policy.py",
    *(f"engine/generation/upstream/{name}.py" for name in ("routing", "health", "quota", "usage", "refusal")),
    *(
        f"engine/documents/{name}.py"
        for name in ("document", "plain_text", "points", "relations", "sentences", "splitter")
    ),
    "engine/named_places.py",
    "engine/retry_budget.py",
    "engine/generation/sse.py",
    *(f"engine/generation/{name}.py" for name in ("conversation", "handing_on", "relations", "sampling")),
    "engine/generation/graph/relations.py",
    *(f"engine/generation/grounding/{name}.py" for name in ("citation", "passage", "prompt", "support")),
    *(f"engine/generation/upstream/anthropic_{name}.py" for name in ("request", "answer", "stream")),
    *(
        f"engine/triton/{name}.py"
        for name in ("declaration", "policy", "hpack", "http2", "messages", "call", "shared_request")
    ),
)
IMPURE_MODULES = {"asyncio", "time", "random", "threading", "socket", "os", "subprocess", "multiprocessing", "io"}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "managers"}
SERVABLE_CONTRACT = {"engine.servables", "engine.servables.servable", "engine.servables.signature"}
MAY_NAME_EVERYTHING = {"engine.engine", "engine.hosting", "engine.description", "engine"}
HEAVY = (
    "onnxruntime",
    "onnx",
    "grpc",
    "ray",
    "torch",
    "triton",
    "faiss",
    "pandas",
    "vllm",
    "scipy",
    "starlette",
    "google.protobuf",
)
MODULES_LOADED_MAX = 400
FUNCTION_LINES_MAX, FUNCTION_LINES_COMMON, FILE_LINES_MAX = 60, 30, 450


@dataclass(frozen=True)
class Import:
    """One imported module or name. `runtime`: executed when the importing module is."""

    module: str
    name: str | None
    line: int
    runtime: bool

    @property
    def full(self) -> str:
        """What was asked for, as one dotted name."""
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def root(self) -> str:
        """The top package."""
        return self.module.split(".")[0]


@dataclass(frozen=True)
class Source:
    """One parsed file, with its path relative to the tree."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def module(self) -> str:
        """Its dotted name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def imports(self) -> list[Import]:
        """Every import, in functions and under TYPE_CHECKING too, and `importlib.import_module("literal")`."""
        return list(self._imports(self.tree, runtime=True))

    def _imports(self, node: ast.AST, *, runtime: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(each.name, None, child.lineno, runtime) for each in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = self._absolute(child)
                yield from (Import(base, each.name, child.lineno, runtime) for each in child.names)
            elif isinstance(child, ast.Call) and (named := _imported_by_call(child)):
                yield Import(named, None, child.lineno, False)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from self._imports(child, runtime=runtime and not inside and not _is_type_checking(child))

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        package = parts if self.path.endswith("__init__.py") else parts[:-1]
        kept = package[: len(package) - node.level + 1]
        return ".".join([*kept, *([node.module] if node.module else [])])

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method."""
        return [each for each in ast.walk(self.tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]


def _imported_by_call(node: ast.Call) -> str | None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    if called not in ("import_module", "__import__") or not node.args:
        return None
    first = node.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def read(root: Path, *packages: str) -> list[Source]:
    """Every Python file of `packages` under `root`; generated protobuf code is nobody's style, installed code is others'."""
    return [
        _source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
        if "_pb2" not in path.name and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


@cache
def _source(path: str, text: str) -> Source:
    """Parsed once for all rules."""
    return Source(path, text)


# Rules: each takes a tree and gives a line for every breach.

Rule = Callable[[Path], list[str]]


def _breach(source: Source, each: Import, why: str) -> str:
    return f"{source.path}:{each.line}: imports {each.full}: {why}"


def _offences(sources: list[Source], wrong: Callable[[Source, Import], str | None]) -> list[str]:
    return [_breach(source, each, why) for source in sources for each in source.imports if (why := wrong(source, each))]


def layers(root: Path) -> list[str]:
    """kernels <- engine <- serving; benchmarks above; nobody imports tests."""
    above = {
        "kernels": {"engine", "serving", "benchmarks", "protos", "tests"},
        "engine": {"serving", "benchmarks", "tests"},
        "serving": {"benchmarks", "tests", "kernels"},
        "benchmarks": {"tests"},
    }

    def wrong(source: Source, each: Import) -> str | None:
        return "a layer above, or one not next to it" if each.root in above[source.module.split(".")[0]] else None

    return _offences(read(root, *above), wrong)


def engine_is_transport_free(root: Path) -> list[str]:
    """engine never imports ray, grpc, an HTTP framework or protobuf; but what Triton servers are asked in is tritonclient's."""

    def wrong(source: Source, each: Import) -> str | None:
        if each.root not in BANNED_IN_ENGINE or (source.path == MESSAGES_OF_TRITON and not each.runtime):
            return None
        return "the engine knows no transport and no host"

    return _offences(read(root, "engine", "kernels"), wrong)


def no_cycles(root: Path) -> list[str]:
    """The graph of imports between our modules is acyclic, imports in functions and for type checking included."""
    sources = read(root, *OURS)
    known = {each.module for each in sources}
    graph: dict[str, set[str]] = {}
    for source in sources:
        targets = {each.full if each.full in known else each.module for each in source.imports}
        graph[source.module] = {each for each in targets if each in known and each != source.module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"cycle: {' -> '.join(error.args[1])}"]
    return []


def servables_are_known_by_contract(root: Path) -> list[str]:
    """scheduling and control know of servables only `servable` and `signature`."""

    def wrong(_: Source, each: Import) -> str | None:
        if not each.module.startswith("engine.servables"):
            return None
        asked = each.full if each.module == "engine.servables" else each.module
        return None if asked in SERVABLE_CONTRACT else "only the contract of servables may be known here"

    return _offences(read(root, "engine/scheduling", "engine/control"), wrong)


def siblings_are_strangers(root: Path) -> list[str]:
    """scheduling and control do not import each other; neither do vectors and features."""
    pairs = [("scheduling", "control"), ("vectors", "features")]
    strangers = [*pairs, *((right, left) for left, right in pairs)]
    found = []
    for one, other in strangers:
        prefix = f"engine.{other}"

        def wrong(_: Source, each: Import, prefix: str = prefix) -> str | None:
            return "strangers to each other" if f"{each.full}.".startswith(f"{prefix}.") else None

        found += _offences(read(root, f"engine/{one}"), wrong)
    return found


def one_composition_root(root: Path) -> list[str]:
    """Only engine/engine.py knows more than one of servable implementations, scheduling and control."""
    found = []
    for source in read(root, "engine"):
        known = {part for each in source.imports if (part := _part(each))}
        if len(known) > 1 and source.module not in MAY_NAME_EVERYTHING:
            found.append(f"{source.path}: knows {', '.join(sorted(known))}: only engine/engine.py wires parts together")
    return found


def _part(each: Import) -> str | None:
    asked = each.full if each.module in ("engine", "engine.servables") else each.module
    if asked.startswith("engine.servables"):
        return None if asked in {*SERVABLE_CONTRACT, "engine.servables.probe"} else "servable implementations"
    return next((part for part in ("scheduling", "control") if f"{asked}.".startswith(f"engine.{part}.")), None)


def surface_is_what_is_exported(root: Path) -> list[str]:
    """serving and benchmarks use `from engine import X`, X exported, and nothing below."""
    exported = _exported(root)

    def wrong(_: Source, each: Import) -> str | None:
        if each.root != "engine":
            return None
        if each.module != "engine" or each.name is None:
            return "use 'from engine import ...'"
        return None if each.name in exported else "engine/__init__.py does not export it"

    return _offences(read(root, "serving", "benchmarks"), wrong)


def _exported(root: Path) -> set[str]:
    file = root / "engine" / "__init__.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body if file.exists() else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def heavy_libraries_have_one_owner(root: Path) -> list[str]:
    """A heavy library is imported by its owner alone, and there only when used; grpc by one file of serving."""

    def wrong(source: Source, each: Import) -> str | None:
        owners = OWNERS.get(each.root)
        if owners is None:
            return None
        if not source.path.startswith(owners):
            return f"only {' and '.join(owners)} may"
        if each.runtime and source.path.startswith("engine/"):
            return "a heavy library is loaded when used, not when its owner is imported"
        return None

    return _offences(read(root, "kernels", "engine", "serving"), wrong) + _grpc(root)


def _grpc(root: Path) -> list[str]:
    def wrong(source: Source, each: Import) -> str | None:
        return "only serving/grpc_server.py may" if each.root == "grpc" and source.path not in GRPC_FILES else None

    return _offences(read(root, "serving"), wrong)


GRPC_FILES = ("serving/grpc_server.py",)


def kinds_are_learnt_by_one_thread(root: Path) -> list[str]:
    """What msgspec reads as is `decodable(...)`: two threads that meet a kind first crash the process (engine/kinds.py)."""
    sources = [
        each for each in read(root, "engine", "serving", "benchmarks/workloads") if each.path not in ONE_THREADS_KINDS
    ]
    return [
        f"{source.path}:{node.lineno}: {ast.unparse(node)}: read as decodable(...)"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        if (kind := _read_as(node)) and ast.unparse(kind) not in PLAIN_KINDS
        if not ast.unparse(kind).startswith("decodable(")
    ]


def _read_as(call: ast.Call) -> ast.expr | None:
    called = ast.unparse(call.func)
    place = MSGSPEC_READERS.get(called, MSGSPEC_READERS.get(called.removeprefix("msgspec.")))
    if place is None:
        return None
    given = [each.value for each in call.keywords if each.arg == "type"]
    return next(iter([*given, *call.args[place:]]), None)


MSGSPEC_READERS = {
    "msgspec.convert": 1,
    **{f"{form}.{name}": place for form in ("json", "msgpack") for name, place in (("decode", 1), ("Decoder", 0))},
}
"""By name, the place of what to read as among its arguments."""
PLAIN_KINDS = ("datetime",)
"""Of Python's own, of which msgspec has nothing to learn."""
ONE_THREADS_KINDS = ("engine/kinds.py", "engine/log/payload_json.py")
"""It itself; and a kind that is made for one decoder, of types that are nobody else's."""


def pure_files_are_pure(root: Path) -> list[str]:
    """Decisions: no async, time, random, threads or I/O."""
    sources = [each for each in read(root, "engine") if each.path in PURE]

    def wrong(_: Source, each: Import) -> str | None:
        return "this file is pure" if each.root in IMPURE_MODULES else None

    found = _offences(sources, wrong)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await):
                found.append(f"{source.path}:{node.lineno}: async in a pure file")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print", "input"):
                found.append(f"{source.path}:{node.lineno}: I/O in a pure file")
    return found


def functions_are_short(root: Path) -> list[str]:
    """No function over 60 lines; 90% under 30; no file over 450."""
    sources = read(root, "kernels", "engine", "serving")
    lines = {
        f"{source.path}:{each.lineno}: {each.name}": (each.end_lineno or 0) - each.lineno + 1
        for source in sources
        for each in source.functions
    }
    found = [f"{where} has {count} lines" for where, count in lines.items() if count > FUNCTION_LINES_MAX]
    long = [where for where, count in lines.items() if count >= FUNCTION_LINES_COMMON]
    if len(long) > 0.1 * len(lines):
        found.append(f"{len(long)} of {len(lines)} functions have {FUNCTION_LINES_COMMON} lines or more: {long}")
    return found + [
        f"{each.path} has {count} lines" for each in sources if (count := each.text.count("\n")) > FILE_LINES_MAX
    ]


def public_names_have_docstrings(root: Path) -> list[str]:
    """Every module, public class, and public function or method says what it promises."""
    return [
        breach
        for source in read(root, "kernels", "engine", "serving")
        for breach in (
            *([] if ast.get_docstring(source.tree) else [f"{source.path}: the module has no docstring"]),
            *_undocumented(source, source.tree),
        )
    ]


def _undocumented(source: Source, parent: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield f"{source.path}:{node.lineno}: {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(source, node)


def names_say_what_is_inside(root: Path) -> list[str]:
    """No module or folder called utils, common, helpers, misc or manager."""
    return [
        f"{source.path}: name it for its noun"
        for source in read(root, *OURS, "tests")
        if VAGUE_NAMES & set(source.module.split("."))
    ]


RULES: tuple[Rule, ...] = (
    layers,
    engine_is_transport_free,
    no_cycles,
    servables_are_known_by_contract,
    siblings_are_strangers,
    one_composition_root,
    surface_is_what_is_exported,
    heavy_libraries_have_one_owner,
    kinds_are_learnt_by_one_thread,
    pure_files_are_pure,
    functions_are_short,
    public_names_have_docstrings,
    names_say_what_is_inside,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_every_rule(rule: Rule) -> None:
    breaches = rule(ROOT)
    assert not breaches, f"{rule.__doc__}\n" + "\n".join(breaches)


def test_there_is_something_to_check() -> None:
    assert len(read(ROOT, "engine")) > 20
    assert len(read(ROOT, "serving")) > 5
    assert sum(each.root == "engine" for source in read(ROOT, "serving") for each in source.imports) > 20
    assert all((ROOT / each).exists() for each in PURE)
    assert (ROOT / OWNERS["onnxruntime"][0]).exists()
    assert len(_exported(ROOT)) > 20


# The checker itself.

DOC = '"""Doc."""\n'
PLANTED: list[tuple[Rule, str, str]] = [
    (layers, "engine/a.py", "import serving.cli"),
    (layers, "kernels/a.py", "def f():\n    from engine import Tensor"),
    (layers, "serving/a.py", "import kernels"),
    (engine_is_transport_free, "engine/a.py", "import grpc.aio"),
    (engine_is_transport_free, "engine/a.py", "def f():\n    import ray"),
    (engine_is_transport_free, "engine/a.py", "if TYPE_CHECKING:\n    from google.protobuf import message"),
    (engine_is_transport_free, "engine/a.py", "import importlib\nimportlib.import_module('starlette')"),
    (engine_is_transport_free, "engine/a.py", "try:\n    import httpx\nexcept ImportError:\n    pass"),
    (no_cycles, "engine/spec.py", "from engine import tensor"),
    (no_cycles, "engine/spec.py", "from . import tensor"),
    (no_cycles, "engine/spec.py", "def f():\n    from .tensor import Tensor"),
    (servables_are_known_by_contract, "engine/scheduling/a.py", "from engine.servables.onnx import load_onnx"),
    (servables_are_known_by_contract, "engine/scheduling/a.py", "from engine.servables import function"),
    (servables_are_known_by_contract, "engine/control/a.py", "from ..servables import onnx"),
    (siblings_are_strangers, "engine/scheduling/a.py", "from engine.control.registry import Registry"),
    (siblings_are_strangers, "engine/control/a.py", "from engine import scheduling"),
    (siblings_are_strangers, "engine/vectors/a.py", "if TYPE_CHECKING:\n    import engine.features.view"),
    (siblings_are_strangers, "engine/features/a.py", "from ..vectors import point"),
    (one_composition_root, "engine/a.py", "from engine.scheduling.job import Job\nfrom engine.control import registry"),
    (one_composition_root, "engine/scheduling/a.py", "from engine.scheduling import job\nimport engine.servables.onnx"),
    (surface_is_what_is_exported, "serving/a.py", "from engine.tensor import Tensor"),
    (surface_is_what_is_exported, "serving/a.py", "from engine import tensor"),
    (surface_is_what_is_exported, "benchmarks/a.py", "import engine"),
    (heavy_libraries_have_one_owner, "engine/a.py", "def f():\n    import onnxruntime"),
    (heavy_libraries_have_one_owner, "engine/servables/onnx.py", "import onnxruntime.capi"),
    (heavy_libraries_have_one_owner, "serving/a.py", "from ray import serve"),
    (heavy_libraries_have_one_owner, "serving/a.py", "import grpc.aio"),
    (heavy_libraries_have_one_owner, "kernels/a.py", "import torch"),
    (kinds_are_learnt_by_one_thread, "engine/a.py", "msgspec.json.decode(b'', type=Kind)"),
    (kinds_are_learnt_by_one_thread, "serving/a.py", "msgspec.convert({}, Kind)"),
    (kinds_are_learnt_by_one_thread, "serving/a.py", "from msgspec import json\njson.decode(b'', type=Kind)"),
    (kinds_are_learnt_by_one_thread, "benchmarks/workloads/a.py", "msgspec.msgpack.Decoder(Kind)"),
    (pure_files_are_pure, "engine/scheduling/queue.py", "import time"),
    (pure_files_are_pure, "engine/scheduling/queue.py", "def f():\n    from os import path"),
    (pure_files_are_pure, "engine/control/rollout.py", "def f():\n    open('x')"),
    (pure_files_are_pure, "engine/control/rollout.py", "async def f():\n    pass"),
    (functions_are_short, "engine/a.py", "def f():\n" + "    x = 1\n" * 60),
    (functions_are_short, "serving/a.py", "def f():\n" + "    x = 1\n" * 29),
    (functions_are_short, "engine/a.py", "x = 1\n" * 451),
    (public_names_have_docstrings, "engine/a.py", "def f():\n    pass"),
    (public_names_have_docstrings, "engine/a.py", f"class A:\n    {DOC}    def m(self):\n        pass"),
    (names_say_what_is_inside, "engine/utils.py", ""),
    (names_say_what_is_inside, "serving/helpers/a.py", ""),
]

ALLOWED = {
    "engine/__init__.py": "from engine.tensor import Tensor\n__all__ = ['Tensor']",
    "engine/tensor.py": "from engine.spec import Spec",
    "engine/spec.py": "import dataclasses",
    "engine/engine.py": "from engine.scheduling import job\nfrom engine.control import registry\n"
    "from engine.servables.onnx import load_onnx",
    "engine/scheduling/queue.py": "from engine.servables.servable import Servable\nfrom engine.servables import signature",
    "engine/servables/onnx.py": "def _f():\n    import onnxruntime",
    "engine/vectors/sealed.py": "msgspec.json.decode(b'', type=decodable(Kind))\nmsgspec.json.decode(b'')\n"
    "msgspec.convert('', datetime)",
    "kernels/gpu/knn.py": "import torch",
    "serving/grpc_server.py": "import grpc\nfrom engine import Tensor",
    "benchmarks/a.py": "import torch\nimport ray\nfrom engine import Tensor",
}


def _plant(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(DOC + text, encoding="utf-8")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_tree_that_keeps_the_rules_passes(rule: Rule, tmp_path: Path) -> None:
    _plant(tmp_path, ALLOWED)
    assert rule(tmp_path) == []


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_every_rule_catches_a_planted_breach(rule: Rule, path: str, text: str, tmp_path: Path) -> None:
    _plant(tmp_path, ALLOWED | {path: text})
    assert rule(tmp_path), f"{rule.__name__} saw nothing wrong with {path}: {text[:80]}"


def test_every_rule_has_a_planted_breach() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


# What importing the engine loads.


def test_importing_the_engine_loads_no_heavy_library_and_few_modules() -> None:
    script = "import sys; import engine; print(*sorted(sys.modules))"
    run = [sys.executable, "-c", script]
    loaded = set(subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout.split())
    assert "engine.engine" in loaded
    assert not loaded & set(HEAVY)
    assert len(loaded) < MODULES_LOADED_MAX, f"{len(loaded)} modules"
