"""Where a target's calls go, and the headers they carry, by provider. Pure: it is given the secret, and keeps none.

OpenAI: a bearer token. Azure OpenAI: a deployment's path with `api-version`, or the v1 API's; an `api-key`, or a
bearer token of Entra ID. Anthropic: `x-api-key` and `anthropic-version`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlencode

from engine.errors import Unimplemented, quoted
from engine.generation.upstream.declaration import TargetSpec

_ANTHROPIC_PATHS: Final[Mapping[str, str]] = {"chat/completions": "messages"}


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret as it is sent: an API key, or a bearer token. It shows itself to nobody."""

    kind: Literal["key", "token"]
    secret: str

    def __repr__(self) -> str:
        return f"Credential({self.kind}, ...)"


def model_name(target: TargetSpec, called: str) -> str:
    """What the target's server calls the model that is `called` so here."""
    return target.model or target.deployment or called


def url_of(target: TargetSpec, surface: str) -> str:
    """The address of a call. Raises Unimplemented where the provider has no such call."""
    assert target.address is not None, "checked with the spec"
    base = target.address.rstrip("/")
    if target.provider == "anthropic":
        path = _ANTHROPIC_PATHS.get(surface)
        if path is None:
            raise Unimplemented(f"Anthropic's API answers chat completions, not {quoted(surface)}")
        return f"{base}/{path}"
    if target.provider == "azure":
        return _azure_url(target, base, surface)
    return f"{base}/{surface}"


def _azure_url(target: TargetSpec, base: str, surface: str) -> str:
    if target.api_version is None:
        return f"{base}/openai/v1/{surface}"
    query = urlencode({"api-version": target.api_version})
    if surface == "responses":  # the one that names its model in the body alone
        return f"{base}/openai/{surface}?{query}"
    assert target.deployment is not None, "checked with the spec"
    return f"{base}/openai/deployments/{quote(target.deployment, safe='')}/{surface}?{query}"


def headers_of(target: TargetSpec, credential: Credential | None, *, stream: bool) -> dict[str, str]:
    """What a call carries."""
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "user-agent": "vireo",
        **{name.lower(): value for name, value in target.headers.items()},
    }
    if target.provider == "anthropic":
        headers["anthropic-version"] = target.anthropic_version
    if credential is None:
        return headers
    key_header = {"azure": "api-key", "anthropic": "x-api-key"}.get(target.provider)
    if credential.kind == "key" and key_header is not None:
        headers[key_header] = credential.secret
    else:
        headers["authorization"] = f"Bearer {credential.secret}"
    return headers
