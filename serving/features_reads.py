"""Lookups that wait, on no thread: for the events of a token (read your writes), and for shards that have the entities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from engine import Clock, Deadline, DeadlineExceeded, FeatureView, limits, offsets_of, quoted, token_of

if TYPE_CHECKING:
    from engine import FeatureRows
    from serving.dispatch import Dispatch
    from serving.features_codec import Lookup


async def read(dispatch: Dispatch, lookup: Lookup, after: str, deadline: Deadline) -> FeatureRows:
    """What `lookup` finds once everything is shown that the token `after` tells of (empty: as it is now). Raises InvalidArgument,
    DeadlineExceeded, and where shards are asked what they fail with."""
    offsets, view = offsets_of(after), lookup.view
    if isinstance(view, FeatureView):
        await seen(view, offsets, deadline, dispatch.engine.clock)
        return lookup()
    if not isinstance(lookup.keys, int) and not len(lookup.keys):
        return lookup()
    request = view.request(
        lookup.keys, as_of_us=lookup.as_of_us, request=lookup.request, after=offsets, deadline=deadline
    )
    return view.rows(await dispatch.infer(request, enforce_deadline=True), lookup.features)


class Followed(Protocol):
    """What a log is folded into: a view, or a collection."""

    @property
    def name(self) -> str:
        """Its own."""

    @property
    def problem(self) -> str | None:
        """Why it does not answer."""

    def tell(self, offsets: Mapping[int, int], call: Callable[[], None]) -> bool:
        """See `engine.log.awaited.Awaited`."""

    def tell_no_more(self, call: Callable[[], None]) -> None:
        """Likewise."""


async def seen(view: Followed, offsets: Mapping[int, int], deadline: Deadline, clock: Clock) -> None:
    """Returns when answers of `view` show everything before `offsets`. Raises DeadlineExceeded at the deadline, at the latest
    after PUSH_WAIT_S_MAX."""
    loop = asyncio.get_running_loop()
    reached: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        loop.call_soon_threadsafe(_reach, reached)

    if not offsets or not view.tell(offsets, tell):
        return
    try:
        async with asyncio.timeout(min(deadline.remaining_s(clock()), limits.PUSH_WAIT_S_MAX)):
            await reached
    except TimeoutError as error:
        why = "" if view.problem is None else f": {view.problem}"
        raise DeadlineExceeded(
            f"{quoted(view.name)} does not show yet what comes before {token_of(offsets)[:80]}{why}"
        ) from error
    finally:
        view.tell_no_more(tell)


def _reach(reached: asyncio.Future[None]) -> None:
    if not reached.done():
        reached.set_result(None)
