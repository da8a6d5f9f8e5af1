"""Instants as people write them, ISO 8601. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.errors import SpecError, quoted


def instant_us(text: str) -> int:
    """Whole microseconds since the Unix epoch; UTC where `text` names no zone. Raises SpecError for anything else."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise SpecError(f"expected an instant such as '2026-01-31T00:00:00Z', got {quoted(text)}") from error
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
