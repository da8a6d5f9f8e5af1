"""Tokens of Microsoft Entra ID. The one file that imports azure-identity, when it is used."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from engine.clock import Clock
from engine.errors import SpecError, Unavailable
from engine.generation.upstream.declaration import EntraSpec

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_EARLY_S: Final = 300
"""A token is not used any more so long before it ends."""

_KEPT_S_MIN: Final = 10


class EntraTokens:
    """Asks the library, on a thread, since it waits for the network."""

    def __init__(self, credential: TokenCredential, scope: str, where: str, clock: Clock) -> None:
        self._credential, self._scope, self._where, self._clock = credential, scope, where, clock

    async def __call__(self) -> tuple[str, int]:
        """A token, and when it is to be fetched again. Raises Unavailable."""
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> tuple[str, int]:
        from azure.core.exceptions import ClientAuthenticationError

        try:
            token = self._credential.get_token(self._scope)
        except ClientAuthenticationError as error:
            lines = str(error.message).splitlines()
            raise Unavailable(f"{self._where}: Entra ID gave no token: {lines[0] if lines else 'no reason'}") from error
        left_s = token.expires_on - time.time()
        return token.token, self._clock() + int(max(left_s - _EARLY_S, _KEPT_S_MIN) * 1e9)


def entra_tokens(spec: EntraSpec, where: str, clock: Clock) -> EntraTokens:
    """What gives tokens for `spec`. Raises SpecError where the library is not installed."""
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise SpecError(f"{where}: azure-identity is not installed; pip install 'vireo[entra]'") from error
    credential = DefaultAzureCredential(
        managed_identity_client_id=spec.client_id, workload_identity_client_id=spec.client_id
    )
    return EntraTokens(credential, spec.scope, where, clock)
