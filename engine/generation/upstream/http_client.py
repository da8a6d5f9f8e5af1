"""Calls to other servers over HTTP/1.1. The one file that imports httpx2, when it is used; it knows no protocol above
HTTP.

HTTP/1.1, not HTTP/2: to leave a call there is to close its connection, which every server notices; the client's HTTP/2
forgets a stream that is left without telling the server, which would go on generating.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from engine.errors import Internal, SpecError, TooLarge, Unavailable, VireoError
from engine.generation.upstream.declaration import TargetSpec

if TYPE_CHECKING:
    import httpx2

_KEEP_ALIVE_S: Final = 30.0


class Incoming:
    """An answer whose head has come. `aclose` once; before the body's end it closes the connection."""

    def __init__(self, response: httpx2.Response, silence_s_max: float) -> None:
        self._response = response
        self._body = response.aiter_bytes()
        self._silence_s_max = silence_s_max
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def piece(self) -> bytes | None:
        """What of the body has come next; None at its end. Raises Unavailable where it breaks off or falls silent."""
        try:
            async with asyncio.timeout(self._silence_s_max):
                return await anext(self._body, None)
        except TimeoutError as error:
            raise Unavailable(f"nothing came for {self._silence_s_max:g} s") from error
        except Exception as error:
            raise _translated(error) from error

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises TooLarge past `bytes_max`, and as `piece` does."""
        body = bytearray()
        while (piece := await self.piece()) is not None:
            body += piece
            if len(body) > bytes_max:
                raise TooLarge(f"the answer has more than {bytes_max} bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """Lets go of the connection: it is kept for others where the body has ended, and closed where not."""
        await self._response.aclose()
        with suppress(RuntimeError):  # another task is in it, and hears of the end
            await self._body.aclose()


class HttpClient:
    """Connections to one target. Made and used on one event loop."""

    def __init__(self, target: TargetSpec) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise SpecError("httpx2 is not installed; pip install 'vireo[upstream]'") from error
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every call
        limits = httpx2.Limits(
            max_connections=target.connections_max,
            max_keepalive_connections=target.connections_max,
            keepalive_expiry=_KEEP_ALIVE_S,
        )
        self._target = target
        self._client = httpx2.AsyncClient(
            limits=limits, timeout=httpx2.Timeout(None, connect=target.connect_s_max), follow_redirects=False
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Incoming:
        """The answer, once its head has come. Raises Unavailable where the server cannot be reached, breaks off or is
        silent."""
        request = self._client.build_request("POST", url, headers=dict(headers), content=body)
        silence_s_max = self._target.first_byte_s_max
        try:
            async with asyncio.timeout(silence_s_max):
                response = await self._client.send(request, stream=True)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {silence_s_max:g} s") from error
        except Exception as error:
            raise _translated(error) from error
        return Incoming(response, self._target.silence_s_max)

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()


def _translated(error: Exception) -> VireoError:
    import httpx2

    if isinstance(error, httpx2.ConnectTimeout):
        return Unavailable("no connection in time")
    if isinstance(error, httpx2.TransportError | httpx2.DecodingError | httpx2.StreamError):
        return Unavailable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return Internal(f"{type(error).__name__} in the HTTP client")
