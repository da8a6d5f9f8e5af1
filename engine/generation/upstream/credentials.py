"""Where a target's secret comes from: an environment variable, a file, a command, or Microsoft Entra ID. Secrets are
kept in memory only, and are never in a message or a log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

from engine.clock import Clock
from engine.errors import SpecError, Unavailable, quoted
from engine.generation.upstream.declaration import TargetSpec
from engine.generation.upstream.endpoint import Credential
from engine.limits import SECRET_BYTES_MAX, TOKEN_COMMAND_S_MAX


class CredentialSource(Protocol):
    """Gives the secret that is right now."""

    async def get(self) -> Credential | None:
        """The credential; None where the server wants none. Raises Unavailable where there is none to be had now."""


def credential_source(target: TargetSpec, where: str, folder: Path, clock: Clock) -> CredentialSource:
    """The source of a target's credential. Raises SpecError, which begins with `where`, for what is missing or cannot
    be one."""
    if target.api_key_env is not None:
        return _Fixed(Credential("key", _of_environment(target.api_key_env, f"{where}.api_key_env")))
    if target.api_key_file is not None:
        return _File("key", folder / target.api_key_file, f"{where}.api_key_file")
    if target.token_file is not None:
        return _File("token", folder / target.token_file, f"{where}.token_file")
    if target.token_command:
        return _Renewed(_Command(target, f"{where}.token_command", clock), clock)
    if target.entra is not None:
        from engine.generation.upstream.entra import entra_tokens

        return _Renewed(entra_tokens(target.entra, f"{where}.entra", clock), clock)
    return _Fixed(None)


def _of_environment(name: str, where: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise SpecError(f"{where}: the environment variable {quoted(name)} is not set")
    if (problem := _problem(value)) is not None:
        raise SpecError(f"{where}: what the environment variable {quoted(name)} holds {problem}")
    return value


def _problem(secret: str) -> str | None:
    """Why it can be no header's value; it is not repeated, since it may be a secret all the same."""
    if not secret:
        return "is empty"
    if len(secret) > SECRET_BYTES_MAX:
        return f"has more than {SECRET_BYTES_MAX} characters"
    return None if secret.isascii() and secret.isprintable() and " " not in secret else "is not one word of ASCII"


class _Fixed:
    def __init__(self, credential: Credential | None) -> None:
        self._credential = credential

    async def get(self) -> Credential | None:
        return self._credential


class _File:
    """A file that may be written anew: what it holds is read again once its time or size differs."""

    def __init__(self, kind: Literal["key", "token"], path: Path, where: str) -> None:
        self._kind, self._path, self._where = kind, path, where
        self._mark: tuple[int, int] | None = None
        self._credential: Credential | None = None
        try:
            self._read()
        except Unavailable as error:
            raise SpecError(error.message) from error

    async def get(self) -> Credential:
        return self._read()

    def _read(self) -> Credential:
        try:
            status = self._path.stat()
            mark = (status.st_mtime_ns, status.st_size)
            if self._credential is None or mark != self._mark:
                if status.st_size > SECRET_BYTES_MAX:
                    raise Unavailable(f"{self._where}: {self._path} has more than {SECRET_BYTES_MAX} bytes")
                secret = self._path.read_text(encoding="utf-8").strip()
                if (problem := _problem(secret)) is not None:
                    raise Unavailable(f"{self._where}: what {self._path} holds {problem}")
                self._mark, self._credential = mark, Credential(self._kind, secret)
        except (OSError, UnicodeDecodeError) as error:
            told = "is not text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
            raise Unavailable(f"{self._where}: {self._path} {told}") from error
        return self._credential


Renew = Callable[[], Awaitable[tuple[str, int]]]
"""Gives a token, and the instant it ends at, in nanoseconds of the engine's clock. Raises Unavailable."""


class _Renewed:
    """A token that is fetched when the one before has come near its end; who comes meanwhile waits for the same one."""

    def __init__(self, renew: Renew, clock: Clock) -> None:
        self._renew, self._clock = renew, clock
        self._credential: Credential | None = None
        self._ends_ns = 0
        self._lock = asyncio.Lock()

    async def get(self) -> Credential:
        async with self._lock:
            if self._credential is None or self._clock() >= self._ends_ns:
                token, ends_ns = await self._renew()
                if (problem := _problem(token)) is not None:
                    raise Unavailable(f"the token that was given {problem}")
                self._credential, self._ends_ns = Credential("token", token), ends_ns
            return self._credential


class _Command:
    """What a command prints is a token."""

    def __init__(self, target: TargetSpec, where: str, clock: Clock) -> None:
        self._command, self._keep_s = target.token_command, target.token_s_max
        self._where, self._clock = where, clock

    async def __call__(self) -> tuple[str, int]:
        began_ns = self._clock()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"{self._where}: {self._command[0]} cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(TOKEN_COMMAND_S_MAX):
                printed, _ = await process.communicate()
        except TimeoutError as error:
            raise Unavailable(f"{self._where}: {self._command[0]} took over {TOKEN_COMMAND_S_MAX:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise Unavailable(f"{self._where}: {self._command[0]} ended with {process.returncode}")
        return printed.decode("utf-8", "replace").strip(), began_ns + int(self._keep_s * 1e9)
