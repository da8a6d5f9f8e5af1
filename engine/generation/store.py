"""The language models of one engine, by name: loaded beside what serves, swapped by reference, drained, watched, loaded anew.

A call asks what is live without a lock. Everything that loads or ends models waits for its turn: one at a time, so that two
engines never measure the same memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import Clock, Deadline
from engine.control.registry import Handle
from engine.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable, VireoError, nearest, quoted
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.declaration import LanguageModelSpec
from engine.generation.handing_on import reached
from engine.generation.language_model import Adaptable, Ask, LanguageModel, ModelCard
from engine.generation.statistics import GenerationStatistics
from engine.home import Home
from engine.limits import (
    GENERATION_ADAPT_S_MAX,
    GENERATION_END_S_MAX,
    GENERATION_RESTART_S_MAX,
    GENERATION_RESTART_S_MIN,
    GENERATION_WATCH_S,
    GENERATION_YOUNG_S_MAX,
)

if TYPE_CHECKING:
    from engine.generation.kept_answers import KeptAnswers

log = logging.getLogger("vireo.generation")

Load = Callable[[str, LanguageModelSpec, Path, Ask], LanguageModel]
"""Loads and warms: name, declaration, the folder where relative paths begin, whom to ask for other models. Raises VireoError."""

StateOf = Callable[[str], Hashable]
"""What a servable's answers come from, as it is now: equal only while nothing of it changes."""


class _Live:
    """A model that answers. `idle` is set once it is retired and nobody uses it. `change` counts how often it followed its
    spec."""

    def __init__(
        self, name: str, spec: LanguageModelSpec, model: LanguageModel, counted: GenerationStatistics, clock: Clock
    ) -> None:
        self.counted, self.change, self._clock = counted, 0, clock
        self.idle = threading.Event()
        self.handle = Handle(name, 1, model, self.idle.set)
        self.follow(spec)

    def follow(self, spec: LanguageModelSpec) -> None:
        """It answers as `spec` says from now on, and gives no answer of before."""
        self.spec = spec
        self.change += 1
        self.answers: KeptAnswers | None = None
        if spec.answers is not None:
            from engine.generation.kept_answers import KeptAnswers  # loaded where answers are kept

            self.answers = KeptAnswers(spec.answers, self._clock, self.counted)

    @property
    def model(self) -> LanguageModel:
        return self.handle.hosted


@dataclass(slots=True)
class _Declared:
    """A model of the spec. `problem`: why it is not served as declared; `due_s`: when to load it anew, on Python's clock."""

    spec: LanguageModelSpec
    folder: Path
    counted: GenerationStatistics
    live: _Live | None = None
    problem: str | None = "not loaded yet"
    loaded_s: float = 0.0
    due_s: float | None = None
    pause_s: float = GENERATION_RESTART_S_MIN


class LanguageModels:
    """See the module. `answer` is awaited on the loop of `home`, the rest may be called from any thread but that loop's."""

    def __init__(self, clock: Clock, home: Home, load: Load, state_of: StateOf) -> None:
        self._home = home
        self._clock, self._load, self._state_of = clock, load, state_of
        self._declared: dict[str, _Declared] = {}
        self._live: Mapping[str, _Live] = {}
        self._work = threading.RLock()
        self._stopping = threading.Event()
        self._refusing = False
        self._watcher: threading.Thread | None = None
        self._ends: list[threading.Thread] = []

    # Calls.

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """The answer of the model that has the name `call.model`. Raises NotFound, Unavailable, InvalidArgument,
        ResourceExhausted, DeadlineExceeded; a stream may raise the last, and what its model raises."""
        from engine.generation.underway import Underway, bounded  # which load asyncio

        live = self._acquired(call.model)
        if live.spec.timeout_ms is not None and call.deadline is Deadline.NEVER:
            call = replace(call, deadline=Deadline.after(live.spec.timeout_ms / 1e3, self._clock()))
        under_way = Underway(call.model, call.deadline, self._clock, live.counted, live.handle.release)
        with under_way.ending():
            _check(call, live)
            async with under_way.timeout():
                answer = await self._answered(live, call)
        return bounded(answer, under_way)

    async def _answered(self, live: _Live, call: GenerationCall) -> GenerationAnswer:
        """What is kept, or the model's answer, which is kept if what it came from is the same after it as before."""
        kept = live.answers
        asked = None if kept is None else kept.key(call)
        if kept is None or asked is None:
            return await live.model.answer(call)
        key = asked, self._snapshot(live)
        answer = kept.found(key)
        if answer is not None:
            return answer
        return kept.recorded(await live.model.answer(call), key, lambda: (asked, self._snapshot(live)))

    def _snapshot(self, live: _Live) -> Hashable:
        """What its answers come from, as it is now."""
        shown = {**self._live, live.handle.name: live}
        names = sorted(reached(live.handle.name, {name: each.spec.asks for name, each in shown.items()}))
        return tuple((name, self._state(shown[name]) if name in shown else None) for name in names)

    def _state(self, live: _Live) -> Hashable:
        servable = live.spec.servable
        return live.handle.serial, live.change, None if servable is None else self._state_of(servable)

    def _acquired(self, name: str) -> _Live:
        while not self._refusing:
            live = self._found(name)
            if live.handle.acquire():
                return live  # else it was retired meanwhile: look again
        raise Unavailable("the server is shutting down")

    def _found(self, name: str) -> _Live:
        shown = self._live
        found = shown.get(name) or next((each for each in shown.values() if _has(each, name)), None)
        if found is not None:
            return found
        if (declared := self._declared.get(name)) is not None:
            raise Unavailable(f"language model {quoted(name)} is not ready: {declared.problem}", retry_after_s=1.0)
        known = [card.id for each in shown.values() for card in each.model.cards()]
        raise NotFound(f"language model {quoted(name)} is not found{nearest(name, known)}")

    # Questions.

    def names(self) -> tuple[str, ...]:
        """Of those declared, in their order."""
        return tuple(self._declared)

    def cards(self) -> list[ModelCard]:
        """The names that calls may use now."""
        return [card for each in self._live.values() for card in each.model.cards()]

    def kinds(self, name: str) -> Collection[GenerationKind]:
        """What `name` answers. Raises NotFound, Unavailable."""
        return self._found(name).model.kinds

    def problems(self) -> dict[str, str]:
        """Why each that is not served as declared is not, by name."""
        found = {}
        for name, each in list(self._declared.items()):
            problem = each.problem or (each.live.model.problem() if each.live is not None else None)
            if problem is not None:
                found[name] = problem
        return found

    def live(self) -> list[tuple[str, LanguageModel]]:
        """(name, model) of each that answers now."""
        return [(name, each.model) for name, each in self._live.items()]

    def statistics(self) -> list[tuple[str, GenerationStatistics]]:
        """(name, counts) of each that is declared."""
        return [(name, each.counted) for name, each in list(self._declared.items())]

    def kept(self) -> list[tuple[str, KeptAnswers]]:
        """(name, kept answers) of each that answers now and keeps any."""
        return [(name, each.answers) for name, each in self._live.items() if each.answers is not None]

    # The wish.

    def apply(self, wanted: Mapping[str, LanguageModelSpec], folder: Path, drain_s: float) -> None:
        """Serves these from now on; returns when that is so or has failed. What cannot be loaded is in `problems`; where one of
        that name serves, it still does. What is not wanted any more finishes its calls, for up to `drain_s`."""
        with self._work:
            for name in [each for each in self._declared if each not in wanted]:
                self._replace(self._declared.pop(name), name, None, drain_s)
            for name, spec in wanted.items():
                self._declared.setdefault(name, _Declared(spec, folder, GenerationStatistics()))
            for name, spec in wanted.items():
                self._follow(name, spec, folder, drain_s)
            if wanted and self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="vireo-language-watch", daemon=True)
                self._watcher.start()

    def _follow(self, name: str, spec: LanguageModelSpec, folder: Path, drain_s: float) -> None:
        declared = self._declared[name]
        same = (declared.spec, declared.folder) == (spec, folder)
        if self._stopping.is_set() or (same and declared.live is not None and declared.problem is None):
            return
        moved = declared.folder != folder
        declared.spec, declared.folder, declared.due_s = spec, folder, None
        if moved or not self._adapted(name, declared):
            self._load_beside(name, declared, drain_s)

    def _adapted(self, name: str, declared: _Declared) -> bool:
        """Whether what serves could follow the spec without being loaded anew; `problem` says what of it failed."""
        live = declared.live
        if live is None or not isinstance(live.model, Adaptable):
            return False
        try:
            if not self._home.run(live.model.adapt(declared.spec, declared.folder), GENERATION_ADAPT_S_MAX):
                return False
        except TimeoutError:
            live.follow(live.spec)  # as below
            log.error("language model %s hangs: after %g s it has not followed its spec", name, GENERATION_ADAPT_S_MAX)
            return False
        except Exception as error:
            live.follow(live.spec)  # some of it may be another already
            declared.problem = _told(error)
            log.error("language model %s cannot follow its spec: %s", name, declared.problem)
            return True
        live.follow(declared.spec)
        declared.problem = None
        return True

    def _load_beside(self, name: str, declared: _Declared, drain_s: float) -> bool:
        """Whether it could be loaded; else `problem` says why not."""
        try:
            model = self._load(name, declared.spec, declared.folder, self.answer)
        except Exception as error:
            told = _told(error)
            declared.problem = told if declared.live is None else f"as it was declared before: {told}"
            log.error("language model %s failed to load: %s", name, told)
            return False
        declared.problem, declared.loaded_s = None, time.monotonic()
        self._replace(declared, name, _Live(name, declared.spec, model, declared.counted, self._clock), drain_s)
        log.info("language model %s is ready", name)
        return True

    def _replace(self, declared: _Declared, name: str, live: _Live | None, drain_s: float) -> None:
        """Publishes `live` in the place of what served; that one ends on a thread of its own."""
        before, declared.live = declared.live, live
        shown = {each: found for each, found in self._live.items() if each != name}
        self._live = shown if live is None else {**shown, name: live}
        if before is None:
            return
        before.handle.retire()
        before.handle.close_if_idle()
        end = threading.Thread(target=self._end, args=(before, drain_s), name=f"vireo-end-{name}", daemon=True)
        end.start()
        self._ends = [each for each in self._ends if each.is_alive()] + [end]

    def _end(self, live: _Live, drain_s: float) -> None:
        live.idle.wait(drain_s)
        try:
            self._home.run(live.model.aclose(), GENERATION_END_S_MAX)
        except Exception:  # nothing can be done about it
            log.exception("language model %s could not be closed", live.handle.name)

    # Death.

    def _watch(self) -> None:
        while not self._stopping.wait(GENERATION_WATCH_S):
            with self._work:
                for name, declared in list(self._declared.items()):
                    if not self._stopping.is_set():
                        self._look_after(name, declared)

    def _look_after(self, name: str, declared: _Declared) -> None:
        now_s = time.monotonic()
        problem = None if declared.live is None else declared.live.model.problem()
        if problem is not None:
            log.error("language model %s died and is loaded anew: %s", name, problem)
            declared.problem = f"it died and is loaded anew: {problem}"
            self._replace(declared, name, None, 0.0)
            self._ends[-1].join(GENERATION_END_S_MAX)  # what it holds may be needed to load it anew
            old = now_s - declared.loaded_s > GENERATION_YOUNG_S_MAX
            declared.pause_s = GENERATION_RESTART_S_MIN if old else declared.pause_s
            declared.due_s = now_s if old or declared.counted.restarts == 0 else now_s + declared.pause_s
        if declared.due_s is None or now_s < declared.due_s:
            return
        declared.pause_s = min(2 * declared.pause_s, GENERATION_RESTART_S_MAX)
        if self._load_beside(name, declared, 0.0):
            declared.due_s = None
            declared.counted.restarts += 1
        else:
            declared.due_s = time.monotonic() + declared.pause_s

    # The end.

    def stop_accepting(self) -> None:
        """Refuses new calls as unavailable; those under way go on."""
        self._refusing = True

    def close(self, drain_s: float) -> bool:
        """Ends all models, their calls after at most `drain_s`. False where one is still being loaded, by a daemon thread."""
        self.stop_accepting()
        self._stopping.set()
        if not self._work.acquire(timeout=GENERATION_WATCH_S):
            return False
        try:
            for name, declared in self._declared.items():
                self._replace(declared, name, None, drain_s)
            self._declared.clear()
            for each in self._ends:
                each.join(drain_s + GENERATION_END_S_MAX)
        finally:
            self._work.release()
        return True


def _told(error: Exception) -> str:
    return error.message if isinstance(error, VireoError) else f"{type(error).__name__}: {error}"


def _has(live: _Live, name: str) -> bool:
    return any(card.id == name for card in live.model.cards())


def _check(call: GenerationCall, live: _Live) -> None:
    if live.counted.under_way > live.spec.calls_max:
        raise ResourceExhausted(
            f"language model {quoted(call.model)}: {live.spec.calls_max} calls are under way (calls_max)",
            retry_after_s=1.0,
        )
    if call.kind not in live.model.kinds:
        kinds = ", ".join(sorted(live.model.kinds))
        raise InvalidArgument(f"language model {quoted(call.model)} answers no {call.kind} calls; it answers: {kinds}")
