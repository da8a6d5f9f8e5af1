"""Searches that came in one turn of the event loop, answered at its end together: an index that is asked for several at once
takes a fifth less for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from engine import AnyCollection, AnyFound, Query, VireoError
from serving.methods import Exchange
from serving.vectors_codec import encode_found


@dataclass(slots=True, eq=False)
class _Asked:
    call: Exchange
    collection: AnyCollection
    query: Query
    gone: bool = False

    def leave(self) -> None:
        self.gone = True


class SearchTurn:
    """For one event loop, whose thread alone may call it."""

    def __init__(self) -> None:
        self._asked: list[_Asked] = []

    def add(self, call: Exchange, collection: AnyCollection, query: Query) -> None:
        """Answers the call before the loop looks for more to do, unless its caller is gone by then."""
        asked = _Asked(call, collection, query)
        call.on_gone(asked.leave)
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._answer_all)
        self._asked.append(asked)

    def _answer_all(self) -> None:
        turn, self._asked = self._asked, []
        by_collection: dict[int, list[_Asked]] = {}
        for each in turn:
            if not each.gone:
                by_collection.setdefault(id(each.collection), []).append(each)
        for alike in by_collection.values():
            self._answer(alike)

    def _answer(self, alike: list[_Asked]) -> None:
        collection = alike[0].collection
        try:
            found: Sequence[AnyFound] = collection.search_many([each.query for each in alike])
        except VireoError:  # of one of them
            for each in alike:
                _answer_one(each)
            return
        except Exception as error:
            for each in alike:
                each.call.fail(error)
            return
        for each, hits in zip(alike, found, strict=True):
            each.call.answer(encode_found(hits, each.query), "", ())


def _answer_one(asked: _Asked) -> None:
    try:
        found = asked.collection.search(asked.query)
        asked.call.answer(encode_found(found, asked.query), "", ())
    except Exception as error:
        asked.call.fail(error)
