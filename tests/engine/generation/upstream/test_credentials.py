"""Tokens that are fetched: by a command, and by the real azure-identity from a stand-in for Azure's own endpoint."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Unavailable
from engine.generation.upstream.credentials import credential_source
from engine.generation.upstream.declaration import EntraSpec, TargetSpec
from engine.generation.upstream.endpoint import Credential
from tests.fakes import ManualClock

HERE = Path()


def test_a_commands_token_is_kept_for_its_time_and_fetched_once_for_all_who_wait(tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"import pathlib; p = pathlib.Path({str(count)!r}); n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1)); print(f'token-{{n}}')"  # noqa: E501
    clock = ManualClock()
    source = credential_source(
        TargetSpec(token_command=(sys.executable, "-c", script), token_s_max=60), "t", HERE, clock
    )

    async def use() -> list[Credential | None]:
        first = await asyncio.gather(*(source.get() for _ in range(3)))
        clock.advance(59)
        kept = await source.get()
        clock.advance(2)
        return [*first, kept, await source.get()]

    found = asyncio.run(use())
    assert [each.secret for each in found if each] == ["token-0"] * 4 + ["token-1"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("/nowhere/at/all",), "t.token_command: /nowhere/at/all cannot be run: No such file"),
        (("sh", "-c", "echo sk-secret >&2; exit 3"), "t.token_command: sh ended with 3"),
        (("sh", "-c", "echo two words"), "the token that was given is not one word"),
    ],
)
def test_a_command_that_gives_no_token_is_told_of_without_its_output(command: tuple[str, ...], told: str) -> None:
    source = credential_source(TargetSpec(token_command=command), "t", HERE, ManualClock())
    with pytest.raises(Unavailable, match=told) as failed:
        asyncio.run(source.get())
    assert "secret" not in failed.value.message


class _Identity(BaseHTTPRequestHandler):
    """The endpoint where App Service gives tokens to what runs in it."""

    given: list[str] = []
    allowed = True

    def do_GET(self) -> None:
        if not self.allowed:
            self.send_response(400)
            self.end_headers()
            return
        self.given.append(self.path)
        token = {
            "access_token": f"entra-{len(self.given)}", "expires_on": str(int(time.time()) + 3600),
            "resource": "x", "token_type": "Bearer",
        }  # fmt: skip
        body = json.dumps(token).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401  the library's names
        """Says nothing."""


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Identity]]:
    """The endpoint, as the environment of a machine of Azure's names it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Identity)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "h")
    _Identity.given, _Identity.allowed = [], True
    yield _Identity
    server.shutdown()
    server.server_close()


def test_entra_gives_tokens_for_the_identity_of_the_machine(identity: type[_Identity]) -> None:
    clock = ManualClock()
    source = credential_source(TargetSpec("azure", entra=EntraSpec(client_id="me")), "t", HERE, clock)

    async def use() -> list[Credential | None]:
        found = [await source.get(), await source.get()]
        clock.advance(3600)
        return [*found, await source.get()]

    found = asyncio.run(use())
    assert found[0] == Credential("token", "entra-1")
    assert found[1] == found[0]
    assert "cognitiveservices.azure.com" in identity.given[0]
    assert "me" in identity.given[0]


def test_entra_that_gives_no_token_is_told_of(identity: type[_Identity]) -> None:
    identity.allowed = False
    source = credential_source(TargetSpec("azure", entra=EntraSpec()), "t", HERE, ManualClock())
    with pytest.raises(Unavailable, match=r"t\.entra: Entra ID gave no token"):
        asyncio.run(source.get())
