"""The certificates a spec names, checked before any front uses them: not every TLS library says what is wrong."""

from __future__ import annotations

import ssl
from typing import Final

from engine import Spec, SpecError, TlsSpec

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; HTTP/2 forbids what has no forward secrecy or no authenticated encryption (RFC 9113, appendix A)."""


def load_tls(spec: Spec) -> ssl.SSLContext | None:
    """A server's context, None where the spec asks for clear text. Raises SpecError naming the file at fault."""
    tls = spec.server.tls
    if tls is None:
        return None
    for name in ("certificate", "key", "client_ca"):
        _check_readable(spec, tls, name)
    context = _modern()
    try:
        context.load_cert_chain(spec.path(tls.certificate), spec.path(tls.key), password="")  # never ask a terminal
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise SpecError(f"server.tls: {tls.certificate} and {tls.key} do not go together: {error}") from error
    if tls.client_ca is not None:
        _trust(context, spec, tls.client_ca)
    return context


def _modern() -> ssl.SSLContext:
    """What HTTP/2 asks of TLS (RFC 9113, section 9.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _check_readable(spec: Spec, tls: TlsSpec, name: str) -> None:
    value = getattr(tls, name)
    try:
        if value is not None:
            spec.path(value).read_bytes()
    except OSError as error:
        raise SpecError(f"server.tls.{name}: {error}") from error


def _trust(context: ssl.SSLContext, spec: Spec, client_ca: str) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(spec.path(client_ca))
    except (OSError, ValueError) as error:
        raise SpecError(f"server.tls.client_ca: {client_ca} has no certificate: {error}") from error
