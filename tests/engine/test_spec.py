"""The application spec: defaults, bounds, and relations between keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import Spec, SpecError, VersionSpec, load_spec, parse_spec

FUNCTION = "functions: {f: {call: 'a:b', inputs: {x: {datatype: FP32, shape: [%s]}}, outputs: {}, batchable: %s}}"


def _parse(text: str) -> Spec:
    return parse_spec(text, folder=Path("/specs"), source="s.yaml")


def test_an_empty_spec_serves_nothing_on_this_machine_only() -> None:
    spec = _parse("")
    assert spec == Spec(folder=Path("/specs"))
    assert (spec.server.host, spec.server.grpc_port, spec.repository) == ("127.0.0.1", 8001, None)


def test_relative_paths_start_at_the_folder_of_the_spec() -> None:
    spec = _parse("repository: {path: models}")
    assert spec.path("models") == Path("/specs/models")
    assert spec.path("/abs") == Path("/abs")


def test_a_spec_is_read_from_a_file_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("server: {grpc_port: 0, http_port: null}\n", encoding="utf-8")
    spec = load_spec(file)
    assert spec.folder == tmp_path.resolve()
    assert (spec.server.grpc_port, spec.server.http_port) == (0, None)


def test_a_folder_is_a_spec_that_serves_it(tmp_path: Path) -> None:
    spec = load_spec(tmp_path)
    assert spec.repository is not None
    assert spec.path(spec.repository.path) == tmp_path.resolve()


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_a_spec_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "app.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SpecError, match=r"app.yaml: cannot be read"):
        load_spec(file)


def test_mistakes_in_a_file_name_the_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("server:\n  grcp_port: 1\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"^app.yaml:2: server: unknown key 'grcp_port'; nearest: 'grpc_port'$"):
        load_spec(file)


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("all", "all"),
        ("{latest: 2}", VersionSpec(latest=2)),
        ("{specific: [1, 3]}", VersionSpec(specific=(1, 3))),
        ("~", None),
    ],
)
def test_versions_are_a_word_or_a_policy(text: str, versions: object) -> None:
    spec = _parse(f"repository: {{path: m}}\nmodels: {{a: {{versions: {text}}}}}")
    assert spec.models["a"].versions == versions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {grpc_port: 65536}", "server.grpc_port: must be from 0 to 65535, got 65536"),
        ("server: {http_port: -1}", "server.http_port: must be from 0 to 65535"),
        ("server: {message_bytes_max: 1}", "server.message_bytes_max: must be from 1024"),
        ("server: {drain_s: -0.1}", "server.drain_s: must be from 0"),
        ("server: {drain_s: .nan}", "server.drain_s: must be from 0"),
        ("server: {drain_s: .inf}", "server.drain_s: must be from 0"),
        ("repository: {path: m, poll_s: 0}", "repository.poll_s: must be from 0.05"),
        ("repository: {path: m, control: pol}", "expected one of 'none', 'explicit', 'poll', got 'pol'"),
        ("repository: {}", "missing key 'path'"),
        ("models: {a: {}}", "models: needs a repository"),
        ("repository: {path: m}\nmodels: {a: {threads: 0}}", "models.a.threads: must be from 1"),
        ("repository: {path: m}\nmodels: {a: {instances: 0}}", "models.a.instances: must be from 1"),
        ("repository: {path: m}\nmodels: {a: {timeout_ms: 0}}", "models.a.timeout_ms: must be from 0.001"),
        ("repository: {path: m}\nmodels: {a: {inline_us_max: -1}}", "models.a.inline_us_max: must be from 0"),
        ("repository: {path: m}\nmodels: {a: {batching: {rows_max: 0}}}", "models.a.batching.rows_max: must be from 1"),
        ("repository: {path: m}\nmodels: {a: {queue: {requests_max: 0}}}", "queue.requests_max: must be from 1"),
        (
            "repository: {path: m}\nmodels: {a: {queue: {batch_share: 1.5}}}",
            "queue.batch_share: must be from 0 to 1, got 1.5",
        ),
        ("repository: {path: m}\nmodels: {a: {queue: {bytes_max: 0}}}", "queue.bytes_max: must be from 1"),
        ("repository: {path: m}\nmodels: {a: {versions: {}}}", "give either 'latest' or 'specific'"),
        (
            "repository: {path: m}\nmodels: {a: {versions: {latest: 1, specific: [1]}}}",
            "give either 'latest' or 'specific'",
        ),
        ("repository: {path: m}\nmodels: {a: {versions: {latest: 0}}}", "versions.latest: must be from 1"),
        ("functions: {f: {call: nothing, inputs: {}, outputs: {}}}", "expected 'package.module:name', got 'nothing'"),
        ("functions: {f: {call: ':b', inputs: {}, outputs: {}}}", "expected 'package.module:name'"),
        ("functions: {f: {call: 'a:b', inputs: {}}}", "missing key 'outputs'"),
        (
            "functions: {f: {call: 'a:b', inputs: {x: {datatype: FP31, shape: [1]}}, outputs: {}}}",
            "functions.f.inputs.x.datatype: unknown datatype 'FP31'; nearest: 'FP",
        ),
        (FUNCTION % ("-2", "false"), r"functions.f.inputs.x.shape: sizes are -1 or more, got \[-2\]"),
        (FUNCTION % ("3, -1", "true"), r"a batchable function's tensors begin with -1, got \[3, -1\]"),
        (FUNCTION % ("", "true"), r"a batchable function's tensors begin with -1, got \[\]"),
    ],
)
def test_values_out_of_bounds_are_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"^s.yaml:.*{message}"):
        _parse(text)


def test_bounds_themselves_are_allowed() -> None:
    spec = _parse("server: {grpc_port: 65535, drain_s: 0}\n" + FUNCTION % ("-1, 0", "true"))
    assert spec.functions["f"].inputs["x"].shape == (-1, 0)
