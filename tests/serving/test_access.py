"""Who may call: bearer tokens, TLS, mutual TLS, and what listens beyond this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import InferenceServerClient, service_pb2
from tritonclient.utils import InferenceServerException

from engine import AuthSpec, ServerSpec, Spec, SpecError, TlsSpec
from serving.auth import Authenticator, check_exposure, is_loopback, load_authenticator
from tests.fakes import PATIENCE_S
from tests.serving.calls import AS_BYTES, SERVICE, Answers, numbers, refused, status_of, typed
from tests.serving.models import MEETING
from tests.serving.servers import ServerHere

Start = Callable[[str], ServerHere]
DOUBLE = MEETING.replace("meeting", "double")


def _server(more: str) -> str:
    return f"server: {{grpc_port: 0, http_port: null, {more}}}\n{DOUBLE}"


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# Bearer tokens.


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> ServerHere:
    """A server that knows two tokens."""
    (tmp_path / "tokens").write_text("first-token\n\n  second-token  \n")
    return start(_server("auth: {tokens_file: tokens}"))


@pytest.fixture
def guarded_client(guarded: ServerHere) -> Iterator[InferenceServerClient]:
    """A client of it."""
    with InferenceServerClient(guarded.address) as made:
        yield made


@pytest.mark.parametrize("token", ["first-token", "second-token"])
def test_known_tokens_open_every_call(guarded_client: InferenceServerClient, token: str) -> None:
    headers = _bearer(token)
    assert guarded_client.infer("double", numbers(2.0), headers=headers).as_numpy("y").item() == 4.0
    assert guarded_client.get_server_metadata(headers=headers).name == "vireo"
    answers = Answers()
    guarded_client.start_stream(answers, headers=headers)
    guarded_client.async_stream_infer("double", numbers(2.0))
    assert answers.wait(1)[0].as_numpy("y").item() == 4.0


def test_scheme_is_read_in_any_case(guarded_client: InferenceServerClient) -> None:
    assert guarded_client.is_server_live(headers={"authorization": "bearer first-token"})


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "needs an 'authorization: Bearer TOKEN' header"),
        ({"authorization": "first-token"}, "needs an 'authorization: Bearer TOKEN' header"),
        ({"authorization": "Basic first-token"}, "needs an 'authorization: Bearer TOKEN' header"),
        (_bearer("third-token"), "the bearer token is not known"),
        (_bearer("first-toke"), "the bearer token is not known"),
        (_bearer(""), "the bearer token is not known"),
    ],
)
def test_call_without_a_known_token_is_unauthenticated(
    guarded_client: InferenceServerClient, headers: dict[str, str], words: str
) -> None:
    with refused("UNAUTHENTICATED", words):
        guarded_client.infer("double", numbers(2.0), headers=headers)
    with refused("UNAUTHENTICATED", words):
        guarded_client.is_server_live(headers=headers)


def test_every_method_but_health_is_closed(guarded: ServerHere) -> None:
    inference = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    reflection = [f"/grpc.reflection.{each}.ServerReflection/ServerReflectionInfo" for each in ("v1", "v1alpha")]
    with grpc.insecure_channel(guarded.address) as channel:
        for path in [*(f"/{SERVICE}/{each.name}" for each in inference), *reflection]:
            call = channel.stream_stream(path, *AS_BYTES)(iter([b""]), timeout=PATIENCE_S)
            with refused("UNAUTHENTICATED"):
                list(call)


def test_health_stays_open(guarded: ServerHere) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_stream_without_a_token_computes_nothing(guarded: ServerHere, guarded_client: InferenceServerClient) -> None:
    answers = Answers()
    guarded_client.start_stream(answers)
    with suppress(InferenceServerException):  # the refusal may come before the request is out
        guarded_client.async_stream_infer("double", numbers(2.0))
    assert status_of(answers.wait(1)[0])[0] == "UNAUTHENTICATED"
    ((_, _, statistics),) = guarded.engine.statistics("double")
    assert statistics.executions == 0


def test_refusal_does_not_repeat_the_token(guarded_client: InferenceServerClient) -> None:
    with pytest.raises(Exception, match="bearer token") as caught:
        guarded_client.is_server_live(headers=_bearer("secret-of-somebody"))
    assert "secret" not in str(caught.value)


def test_tokens_may_come_from_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIREO_TEST_TOKENS", "one, two,")
    with InferenceServerClient(start(_server("auth: {tokens_env: VIREO_TEST_TOKENS}")).address) as client:
        assert client.is_server_live(headers=_bearer("two"))
        with refused("UNAUTHENTICATED"):
            client.is_server_live(headers=_bearer(""))


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ("{tokens_file: none}", "server.auth.tokens_file: .*No such file"),
        ("{tokens_file: empty}", "server.auth: no tokens found"),
        ("{tokens_file: binary}", "server.auth.tokens_file: .*can't decode"),
        ("{tokens_env: VIREO_TEST_UNSET}", "server.auth: no tokens found"),
        ("{}", "give either 'tokens_file' or 'tokens_env'"),
        ("{tokens_file: a, tokens_env: B}", "give either 'tokens_file' or 'tokens_env'"),
    ],
)
def test_tokens_that_cannot_be_had_keep_the_server_from_starting(
    start: Start, tmp_path: Path, auth: str, words: str
) -> None:
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=words):
        start(_server(f"auth: {auth}"))


def test_without_configured_tokens_everybody_may_call() -> None:
    authenticator = load_authenticator(Spec())
    assert not authenticator.required
    authenticator.check({})
    assert Authenticator(["t"]).required


# TLS.


@dataclass(frozen=True)
class Certificates:
    """PEM files of an authority and what it signed (a server, a client, an expired client), and of a stranger."""

    folder: Path

    def read(self, name: str) -> bytes:
        """One file."""
        return (self.folder / f"{name}.pem").read_bytes()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made with the `openssl` command."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("authority", "stranger"):
        _openssl(folder, *REQUEST, "-x509", *_key(authority), "-out", f"{authority}.pem", "-subj", f"/CN={authority}")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        _openssl(folder, *REQUEST, *_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority-key.pem"]
        _openssl(folder, *signing, "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")
    shutil.copy(folder / "client-key.pem", folder / "expired-key.pem")
    _openssl(folder, *signing, "-days", "-1", "-out", "expired.pem")
    return Certificates(folder)


REQUEST = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _key(name: str) -> list[str]:
    return ["-keyout", f"{name}-key.pem"]


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def _tls(certificates: Certificates, more: str = "") -> str:
    folder = certificates.folder
    return f"tls: {{certificate: {folder}/server.pem, key: {folder}/server-key.pem{more}}}"


def _mutual(certificates: Certificates) -> str:
    return _tls(certificates, f", client_ca: {certificates.folder}/authority.pem")


def _client(server: ServerHere, certificates: Certificates, *, identity: str | None = None) -> InferenceServerClient:
    files = {"root_certificates": f"{certificates.folder}/authority.pem"}
    if identity is not None:
        files |= {
            "private_key": f"{certificates.folder}/{identity}-key.pem",
            "certificate_chain": f"{certificates.folder}/{identity}.pem",
        }
    return InferenceServerClient(server.address, ssl=True, **files)


def test_tls_serves_a_client_that_trusts_the_authority(start: Start, certificates: Certificates) -> None:
    server = start(_server(_tls(certificates)))
    with _client(server, certificates) as client:
        assert client.infer("double", numbers(2.0)).as_numpy("y").item() == 4.0
        answers = Answers()
        client.start_stream(answers)
        client.async_stream_infer("double", numbers(3.0))
        assert answers.wait(1)[0].as_numpy("y").item() == 6.0


def test_tls_serves_nobody_in_clear_text(start: Start, certificates: Certificates) -> None:
    server = start(_server(_tls(certificates)))
    with InferenceServerClient(server.address) as client, refused("UNAVAILABLE"):
        client.is_server_live()


def test_client_refuses_a_server_of_a_stranger(start: Start, certificates: Certificates) -> None:
    server = start(_server(_tls(certificates)))
    stranger = f"{certificates.folder}/stranger.pem"
    with InferenceServerClient(server.address, ssl=True, root_certificates=stranger) as client, refused("UNAVAILABLE"):
        client.is_server_live()


def test_mutual_tls_serves_clients_of_the_authority_alone(start: Start, certificates: Certificates) -> None:
    server = start(_server(_mutual(certificates)))
    with _client(server, certificates, identity="client") as client:
        assert client.infer("double", numbers(2.0)).as_numpy("y").item() == 4.0
    for identity in (None, "stranger"):
        with _client(server, certificates, identity=identity) as client, refused("UNAVAILABLE"):
            client.is_server_live()


def test_tls_and_tokens_go_together(start: Start, certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a-token")
    server = start(_server(f"{_tls(certificates)}, auth: {{tokens_file: tokens}}"))
    with _client(server, certificates) as client:
        assert client.is_server_live(headers=_bearer("a-token"))
        with refused("UNAUTHENTICATED"):
            client.is_server_live()


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ("{certificate: none.pem, key: none.pem}", "server.tls.certificate: .*none.pem"),
        ("{certificate: junk.pem, key: junk.pem}", "server.tls: junk.pem and junk.pem do not go together"),
        ("{certificate: server.pem, key: stranger-key.pem}", "server.pem and stranger-key.pem do not go together"),
        ("{certificate: server.pem, key: server-key.pem, client_ca: none.pem}", "server.tls.client_ca: .*none.pem"),
        (
            "{certificate: server.pem, key: server-key.pem, client_ca: junk.pem}",
            "server.tls.client_ca: junk.pem has no cert",
        ),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    start: Start, certificates: Certificates, tmp_path: Path, tls: str, words: str
) -> None:
    for each in certificates.folder.glob("*.pem"):
        shutil.copy(each, tmp_path)
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(SpecError, match=words):
        start(_server(f"tls: {tls}"))


# Beyond this machine.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "vireo.example", ""])
def test_server_beyond_loopback_without_credentials_is_refused(start: Start, host: str) -> None:
    with pytest.raises(SpecError, match=r"server.host: .*reachable from other machines; configure server.auth"):
        start(_server(f"host: '{host}'"))


@pytest.mark.parametrize(
    "server",
    [
        ServerSpec(host="0.0.0.0", auth=AuthSpec(tokens_env="T")),
        ServerSpec(host="0.0.0.0", tls=TlsSpec("c", "k", client_ca="a")),
        ServerSpec(host="0.0.0.0", allow_remote_without_auth=True),
        *(ServerSpec(host=each) for each in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")),
    ],
)
def test_server_beyond_loopback_with_credentials_or_on_purpose_is_allowed(server: ServerSpec) -> None:
    check_exposure(server)


def test_tls_without_client_certificates_is_no_credential() -> None:
    with pytest.raises(SpecError, match="reachable from other machines"):
        check_exposure(ServerSpec(host="0.0.0.0", tls=TlsSpec("c", "k")))
    assert not is_loopback("localhost.example")


def test_server_beyond_loopback_with_tokens_serves(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a-token")
    server = start(_server("host: 0.0.0.0, auth: {tokens_file: tokens}"))
    with InferenceServerClient(server.address) as client:
        assert client.is_server_live(headers=_bearer("a-token"))


def test_typed_request_needs_a_token_like_any_other(guarded: ServerHere) -> None:
    request = typed("double", "x", "FP32", (1, 1), fp32_contents=[2.0]).SerializeToString()
    with grpc.insecure_channel(guarded.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", *AS_BYTES)
        with refused("UNAUTHENTICATED"):
            call(request)
        assert call(request, metadata=(("authorization", "Bearer first-token"),))
