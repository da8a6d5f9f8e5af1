"""How a language model that other servers run is declared in the spec. Secrets are named here, never written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.limits import (
    UPSTREAM_ATTEMPTS_MAX,
    UPSTREAM_BACKOFF_S_MAX,
    UPSTREAM_BACKOFF_S_MIN,
    UPSTREAM_CONNECT_S_MAX,
    UPSTREAM_CONNECTIONS_MAX,
    UPSTREAM_EJECT_S,
    UPSTREAM_EJECT_S_MAX,
    UPSTREAM_FAILURES_MAX,
    UPSTREAM_FIRST_BYTE_S_MAX,
    UPSTREAM_OUTPUT_TOKENS_DEFAULT,
    UPSTREAM_RETRY_SHARE,
    UPSTREAM_SILENCE_S_MAX,
)

Provider = Literal["openai", "azure", "anthropic"]

BASE_URLS: Final[Mapping[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
}
"""Where a provider is unless `base_url` says otherwise; an Azure resource has an address of its own."""


@dataclass(frozen=True, slots=True)
class PriceSpec:
    """What `per_tokens` tokens cost in `currency`: those of the prompt, those of it that came from the provider's
    cache (null: as the others), and those of the answer."""

    currency: str
    per_tokens: int
    input: float
    output: float
    cached_input: float | None = None


@dataclass(frozen=True, slots=True)
class EntraSpec:
    """Tokens of Microsoft Entra ID by the library azure-identity: its DefaultAzureCredential, for the managed or
    workload identity `client_id` where given."""

    client_id: str | None = None
    scope: str = "https://cognitiveservices.azure.com/.default"


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One model at one server. `base_url` is what comes before `/chat/completions` (OpenAI) or `/messages`
    (Anthropic); of Azure the resource's address, where `deployment` stands for the model, and `api_version` null means
    the v1 API.

    `model` is what the server calls it, null for the name it is called by here. Targets share calls by `weight`; those
    of weight 0 are tried when all others have failed.

    At most one credential: `api_key_env` and `api_key_file` name what holds a key; `token_file` and `token_command`
    give a bearer token that changes, read again when the file has changed or the command's token is older than
    `token_s_max`; `entra`. `stream_usage`: the server may be asked to end a stream with its token counts.
    `drop_parameters` are left out of what is sent. `output_tokens_max` is asked of Anthropic where the caller sets no
    bound, which it demands. Seconds: to connect, until the answer begins, and of silence within it.
    """

    provider: Provider = "openai"
    base_url: str | None = None
    model: str | None = None
    deployment: str | None = None
    api_version: str | None = None
    weight: float = 1.0
    api_key_env: str | None = None
    api_key_file: str | None = None
    token_file: str | None = None
    token_command: tuple[str, ...] = ()
    token_s_max: float = 300.0
    entra: EntraSpec | None = None
    allow_plain_http: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    anthropic_version: str = "2023-06-01"
    output_tokens_max: int = UPSTREAM_OUTPUT_TOKENS_DEFAULT
    stream_usage: bool = True
    drop_parameters: tuple[str, ...] = ()
    price: PriceSpec | None = None
    connect_s_max: float = UPSTREAM_CONNECT_S_MAX
    first_byte_s_max: float = UPSTREAM_FIRST_BYTE_S_MAX
    silence_s_max: float = UPSTREAM_SILENCE_S_MAX
    connections_max: int = UPSTREAM_CONNECTIONS_MAX

    @property
    def address(self) -> str | None:
        """Where it is; None for an Azure resource whose address is not given."""
        return self.base_url or BASE_URLS.get(self.provider)


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """A call is tried `attempts_max` times in all, at targets not yet tried first. Before the same target is tried
    again passes a random part of a span that doubles from `backoff_s_min` to `backoff_s_max`, and what Retry-After
    asks; a longer wait than `retry_after_s_max`, or than the deadline leaves, is not begun. Of all calls together at
    most `share` are tries again, beside a few that are always allowed."""

    attempts_max: int = UPSTREAM_ATTEMPTS_MAX
    backoff_s_min: float = UPSTREAM_BACKOFF_S_MIN
    backoff_s_max: float = UPSTREAM_BACKOFF_S_MAX
    retry_after_s_max: float = 30.0
    share: float = UPSTREAM_RETRY_SHARE


@dataclass(frozen=True, slots=True)
class EjectionSpec:
    """A target that fails `failures_max` times running is left alone for `eject_s`, then one call tries it; each
    failure then doubles the span, up to `eject_s_max`."""

    failures_max: int = UPSTREAM_FAILURES_MAX
    eject_s: float = UPSTREAM_EJECT_S
    eject_s_max: float = UPSTREAM_EJECT_S_MAX


@dataclass(frozen=True, slots=True)
class QuotaSpec:
    """What one tenant may use in any minute; null is no bound. Tokens are those of prompts and answers together."""

    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class QuotasSpec:
    """The quotas of the `tenants` named, and of each other one (`default`, null for none)."""

    tenants: Mapping[str, QuotaSpec] = field(default_factory=dict)
    default: QuotaSpec | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """A language model that other servers run. `fallback` names language models of this spec that answer, in that
    order, when no target can."""

    targets: Mapping[str, TargetSpec]
    fallback: tuple[str, ...] = ()
    retry: RetrySpec = field(default_factory=RetrySpec)
    ejection: EjectionSpec = field(default_factory=EjectionSpec)
    quotas: QuotasSpec | None = None
