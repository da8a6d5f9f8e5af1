"""A language model for replicas."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from engine import Chunks, GenerationAnswer, GenerationCall
from tests.language import Bigrams
from tests.serving.functions import MEETING_VARIABLE

LEFT = "left"


class Speaker(Bigrams):
    """As `Bigrams`, which speaks without haste; it leaves the file `LEFT` when nobody listens any more."""

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        answer = await super().answer(call)
        if not isinstance(answer.body, bytes):
            answer.body = _spoken(answer.body)
        return answer


async def _spoken(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            yield chunk
            await asyncio.sleep(0.01)
    except (GeneratorExit, asyncio.CancelledError):
        (Path(os.environ[MEETING_VARIABLE]) / LEFT).touch()
        raise
    finally:
        await chunks.aclose()
