"""Who may call: bearer tokens, compared in constant time. Without configured tokens, everybody may."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping

from engine import AuthSpec, ServerSpec, Spec, SpecError, Unauthenticated

_PREFIX = "bearer "


class Authenticator:
    """Checks the `authorization` of a call against the tokens it was built with."""

    def __init__(self, tokens: list[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    @property
    def required(self) -> bool:
        """Whether calls need credentials at all."""
        return bool(self._digests)

    def check(self, metadata: Mapping[str, str]) -> None:
        """Raises Unauthenticated unless `metadata` carries a known token."""
        if not self._digests:
            return
        value = metadata.get("authorization", "")
        if value[: len(_PREFIX)].lower() != _PREFIX:
            raise Unauthenticated("this server needs an 'authorization: Bearer TOKEN' header; none was sent")
        digest = _digest(value[len(_PREFIX) :].strip())
        matches = [hmac.compare_digest(digest, each) for each in self._digests]  # all compared, none skipped
        if not any(matches):
            raise Unauthenticated("the bearer token is not known to this server")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def load_authenticator(spec: Spec) -> Authenticator:
    """The authenticator a spec asks for. Raises SpecError where its tokens cannot be read or there are none."""
    auth = spec.server.auth
    if auth is None:
        return Authenticator([])
    tokens = [each.strip() for each in _read(spec, auth) if each.strip()]
    if not tokens:
        raise SpecError("server.auth: no tokens found")
    return Authenticator(tokens)


def _read(spec: Spec, auth: AuthSpec) -> list[str]:
    if (auth.tokens_file is None) == (auth.tokens_env is None):
        raise SpecError("server.auth: give either 'tokens_file' or 'tokens_env'")
    if auth.tokens_env is not None:
        return os.environ.get(auth.tokens_env, "").split(",")
    assert auth.tokens_file is not None
    try:
        return spec.path(auth.tokens_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"server.auth.tokens_file: {error}") from error


def check_exposure(server: ServerSpec) -> None:
    """Refuses to listen beyond loopback without authentication, unless the spec says so outright."""
    mutual = server.tls is not None and server.tls.client_ca is not None
    ports = (server.grpc_port, server.http_port, server.flight_port)
    local = is_loopback(server.host) or all(each is None for each in ports)
    if local or server.auth is not None or mutual or server.allow_remote_without_auth:
        return
    raise SpecError(
        f"server.host: {server.host!r} is reachable from other machines; configure server.auth (or server.tls.client_ca), "
        "or set server.allow_remote_without_auth: true"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
