"""What operators ask for over HTTP: probes, metrics, the API's description, and who may call."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from tests.engine import onnx_models
from tests.fakes import PATIENCE_S
from tests.serving.models import MEETING, SERVER, write_model
from tests.serving.over_http.bodies import SIMPLE, check_refused, is_right, numbers, simple_body, values_of
from tests.serving.over_http.conftest import client_of
from tests.serving.servers import ServerHere
from tests.serving.test_access import Certificates

Start = Callable[[str], ServerHere]
DOUBLE = MEETING.replace("meeting", "double")
INFER = "/v2/models/double/infer"


def _server(more: str) -> str:
    return f"server: {{grpc_port: null, http_port: null, {more}}}\n{DOUBLE}"


# Probes.


def test_live_and_ready_are_told_in_plain_text(http: httpx.Client) -> None:
    for path in ("/livez", "/readyz"):
        answer = http.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}


def test_broken_model_is_named_with_its_reason_and_the_others_serve(start: Start, tmp_path: Path) -> None:
    write_model(tmp_path / "models", "sound", onnx_models.affine(2.0))
    (tmp_path / "models" / "broken" / "1").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "1" / "model.onnx").write_bytes(b"junk")
    with client_of(start(f"{SERVER}\nrepository: {{path: models}}")) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        (line,) = answer.text.splitlines()
        assert re.match(r"broken\S*: .*model\.onnx", line), line
        assert client.get("/v2/health/ready").json() == {"ready": False}
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/livez").status_code == 200
        assert client.get("/v2/models/sound/ready").json() == {"name": "sound", "ready": True}
        check_refused(client.get("/v2/models/broken/ready"), 503, "model 'broken' is not ready")
        assert _family(client, "vireo_ready")[0].value == 0


def test_server_that_takes_no_more_work_is_not_ready_but_lives(start: Start) -> None:
    server = start(_server("drain_s: 5"))
    with client_of(server) as client:
        server.engine.stop_accepting()
        assert client.get("/livez").status_code == 200
        assert (client.get("/readyz").status_code, client.get("/readyz").text) == (
            503,
            "server: not accepting requests\n",
        )
        check_refused(client.post(INFER, json=numbers(1.0)), 503)


def test_server_that_stopped_answers_nobody(start: Start) -> None:
    server = start(_server("drain_s: 5"))
    with client_of(server) as client:
        assert client.get("/livez").status_code == 200
        server.stop()
        with pytest.raises(httpx.TransportError):
            client.get("/livez")


# Metrics.


def _family(http: httpx.Client, name: str) -> list[Any]:
    """The samples of one metric family."""
    (found,) = [each for each in parse_classic(http.get("/metrics").text) if each.name == name]
    return list(found.samples)


def _counted(http: httpx.Client, name: str, **labels: str) -> float:
    samples = _family(http, name)
    return sum(
        float(each.value) for each in samples if each.name.endswith("_total") and labels.items() <= each.labels.items()
    )


def _calls(http: httpx.Client, method: str, code: str) -> float:
    return _counted(http, "vireo_calls", method=method, code=code)


def test_metrics_are_classic_text_unless_openmetrics_is_asked_for(http: httpx.Client) -> None:
    classic = http.get("/metrics", headers={"Accept": "*/*"})
    assert classic.headers["content-type"].startswith("text/plain; version=")
    modern = http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    kinds = [{each.name: each.type for each in parse(answer.text)} for parse, answer in
             ((parse_classic, classic), (parse_openmetrics, modern))]  # fmt: skip
    assert kinds[0] == kinds[1]
    assert (kinds[0]["vireo_calls"], kinds[0]["vireo_request_total_seconds"]) == ("counter", "histogram")


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x", "a;b;c;;,", "\u00ff".encode("latin-1")])
def test_accept_that_means_nothing_gets_the_classic_text(http: httpx.Client, accept: str | bytes) -> None:
    answer = http.get("/metrics", headers=[(b"accept", accept if isinstance(accept, bytes) else accept.encode())])
    assert answer.status_code == 200
    assert list(parse_classic(answer.text))


@pytest.mark.parametrize("stage", ["queue", "compute", "total"])
def test_histograms_add_up(http: httpx.Client, stage: str) -> None:
    for _ in range(20):
        http.post(SIMPLE, json=simple_body())
    samples = [each for each in _family(http, f"vireo_request_{stage}_seconds") if each.labels["model"] == "simple"]
    buckets = [each.value for each in samples if each.name.endswith("_bucket")]
    bounds = [float(each.labels["le"]) for each in samples if each.name.endswith("_bucket")]
    (count,) = [each.value for each in samples if each.name.endswith("_count")]
    (total,) = [each.value for each in samples if each.name.endswith("_sum")]
    assert buckets == sorted(buckets)
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")
    assert buckets[-1] == count == _counted(http, "vireo_requests_success", model="simple") >= 20
    assert total >= 0


def test_rows_batches_and_requests_are_counted(http: httpx.Client) -> None:
    def counted() -> list[float]:
        names = ("vireo_requests_success", "vireo_rows", "vireo_batches")
        return [_counted(http, name, model="double", version="1") for name in names]

    before = counted()
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 2], "data": [0] * 6}]}
    assert values_of(http.post(INFER, json=body)) == [0] * 6
    assert [after - was for after, was in zip(counted(), before, strict=True)] == [1, 3, 1]


@pytest.mark.parametrize(
    ("path", "body", "method", "code"),
    [
        (SIMPLE, json.dumps(simple_body()), "POST /v2/models/{model}/infer", "OK"),
        (SIMPLE, "{", "POST /v2/models/{model}/infer", "INVALID_ARGUMENT"),
        ("/v2/models/none/infer", json.dumps(simple_body()), "POST /v2/models/{model}/infer", "NOT_FOUND"),
        ("/v2/logging", "{}", "POST /v2/logging", "UNIMPLEMENTED"),
        ("/none", "", "unrouted", "NOT_FOUND"),
        ("/livez", "", "unrouted", "UNIMPLEMENTED"),
    ],
)
def test_calls_are_counted_by_route_and_code(http: httpx.Client, path: str, body: str, method: str, code: str) -> None:
    before = _calls(http, method, code)
    http.post(path, content=body.encode())
    assert _calls(http, method, code) == before + 1


def test_callers_cannot_make_labels(http: httpx.Client) -> None:
    for index in range(50):
        http.post(f"/v2/models/made-up-{index}/infer", json=simple_body())
        http.get(f"/made-up-{index}")
    assert "made-up" not in http.get("/metrics").text


def test_fault_of_a_model_is_told_and_counted(http: httpx.Client) -> None:
    before = _counted(http, "vireo_requests_failed", model="faulty")
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
    check_refused(http.post("/v2/models/faulty/infer", json=body), 500, "model 'faulty' version 1", "no luck")
    assert _counted(http, "vireo_requests_failed", model="faulty") == before + 1


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/docs"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_large_answers_are_packed_for_whoever_accepts_it(http: httpx.Client, path: str, encoding: str) -> None:
    answer = http.get(path, headers={"Accept-Encoding": encoding})
    assert answer.headers.get("content-encoding", "identity") == encoding
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.text


# The API's description.


@pytest.fixture
def described(http: httpx.Client) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = http.get("/openapi.json").json()
    return found


def test_description_has_the_form_of_openapi(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    assert described["info"]["title"] == "vireo-under-test"
    for path, operations in described["paths"].items():
        assert path.startswith("/")
        for method, operation in operations.items():
            assert method in ("get", "post")
            assert operation["summary"]
            assert {"200", "default"} <= set(operation["responses"])
            named = {
                each["name"] for each in operation.get("parameters", []) if each["in"] == "path" and each["required"]
            }
            assert named == set(re.findall(r"{(\w+)}", path))


def test_every_reference_of_the_description_leads_somewhere(described: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references
    assert references <= set(described["components"]["schemas"])


def test_every_get_that_is_described_is_served(http: httpx.Client, described: dict[str, Any]) -> None:
    for path in [each for each, operations in described["paths"].items() if "get" in operations]:
        answer = http.get(path.format(model="simple", version="1"))
        assert answer.status_code == 200, path
        (media, *_) = described["paths"][path]["get"]["responses"]["200"]["content"]
        assert answer.headers["content-type"].startswith(media), path


def test_every_example_of_the_description_really_infers(http: httpx.Client, described: dict[str, Any]) -> None:
    tried = []
    for path, operations in described["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in content and path.endswith("/infer"):
            answer = http.post(path, json=content["example"])
            assert answer.status_code == 200, f"{path}: {answer.text}"
            tried.append(path.split("/")[3])
    assert {"simple", "simple_string", "identity_bf16", "identity_bool", "double", "shout", "lookup"} <= set(tried)
    assert not {"countdown", "endless"} & set(tried)


def test_what_is_not_offered_is_not_described(described: dict[str, Any]) -> None:
    assert not [each for each in described["paths"] if "memory" in each or "trace" in each or "logging" in each]


def test_page_needs_nothing_from_elsewhere(http: httpx.Client) -> None:
    answer = http.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'none'", "connect-src 'self'"} <= {each.strip() for each in policy.split(";")}
    assert not re.search(r"(src|href)\s*=\s*['\"]?(https?:)?//", answer.text)
    assert 'fetch("openapi.json"' in answer.text


# Bearer tokens.

OPEN = ["/livez", "/readyz", "/docs", "/v2/health/live", "/v2/health/ready", "/v2/models/double/ready"]
LOCKED = ["/metrics", "/openapi.json", "/v2", "/v2/models", "/v2/models/double", "/v2/models/stats"]


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client without a token, of a server that knows two."""
    (tmp_path / "tokens").write_text("first-token\n\n  second-token  \n")
    with client_of(start(_server("auth: {tokens_file: tokens}"))) as made:
        yield made


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_probes_and_the_page_stay_open_and_the_rest_is_locked(guarded: httpx.Client) -> None:
    assert {path: guarded.get(path).status_code for path in OPEN} == dict.fromkeys(OPEN, 200)
    for path in LOCKED:
        answer = guarded.get(path)
        check_refused(answer, 401, "authorization: Bearer TOKEN")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert guarded.get(path, headers=_bearer("first-token")).status_code == 200


@pytest.mark.parametrize(
    "value", ["first-token", "Basic first-token", "Bearer", "Bearer third", "Bearer first-toke", "\u00ff"]
)
def test_call_without_a_known_token_is_refused_and_computes_nothing(guarded: httpx.Client, value: str) -> None:
    answer = guarded.post(INFER, json=numbers(1.0), headers=[(b"authorization", value.encode("latin-1"))])
    check_refused(answer, 401)
    assert value not in answer.text or value == "Bearer"
    samples = parse_classic(guarded.get("/metrics", headers=_bearer("first-token")).text)
    assert [each.samples[0].value for each in samples if each.name == "vireo_rows"] == [0]


def test_known_tokens_open_every_call(guarded: httpx.Client) -> None:
    for headers in (_bearer("first-token"), _bearer("second-token"), {"Authorization": "bearer second-token"}):
        assert values_of(guarded.post(INFER, json=numbers(2.0), headers=headers)) == [4.0]


def test_description_says_what_is_locked(guarded: httpx.Client, described: dict[str, Any]) -> None:
    locked = guarded.get("/openapi.json", headers=_bearer("first-token")).json()
    assert (locked["security"], described["security"]) == ([{"bearer": []}], [])
    assert locked["paths"]["/livez"]["get"]["security"] == []
    assert "security" not in locked["paths"]["/metrics"]["get"]


# TLS.


def _tls(certificates: Certificates, more: str = "") -> str:
    folder = certificates.folder
    return _server(f"tls: {{certificate: {folder}/server.pem, key: {folder}/server-key.pem{more}}}")


def _secure(server: ServerHere, certificates: Certificates, *, authority: str = "authority", identity: str | None = None
            ) -> httpx.Client:  # fmt: skip
    context = ssl.create_default_context(cafile=certificates.folder / f"{authority}.pem")
    if identity is not None:
        context.load_cert_chain(certificates.folder / f"{identity}.pem", certificates.folder / f"{identity}-key.pem")
    return httpx.Client(base_url=f"https://localhost:{server.host.http_port}", verify=context, timeout=PATIENCE_S)


def _is_refused(client: httpx.Client) -> bool:
    with client, pytest.raises(httpx.TransportError):
        client.get("/livez")
    return True


def test_tls_serves_whoever_trusts_the_authority_and_nobody_in_clear_text(
    start: Start, certificates: Certificates
) -> None:
    server = start(_tls(certificates))
    with _secure(server, certificates) as client:
        assert values_of(client.post(INFER, json=numbers(2.0))) == [4.0]
    assert _is_refused(client_of(server))
    assert _is_refused(_secure(server, certificates, authority="stranger"))
    with _secure(server, certificates) as client:
        assert client.get("/livez").status_code == 200


def test_mutual_tls_serves_clients_of_the_authority_alone(start: Start, certificates: Certificates) -> None:
    server = start(_tls(certificates, f", client_ca: {certificates.folder}/authority.pem"))
    for identity in (None, "stranger"):
        assert _is_refused(_secure(server, certificates, identity=identity))
    with _secure(server, certificates, identity="client") as client:
        assert values_of(client.post(INFER, json=numbers(2.0))) == [4.0]


def test_the_server_still_answers_right(http: httpx.Client) -> None:
    assert is_right(http.post(SIMPLE, json=simple_body()))
