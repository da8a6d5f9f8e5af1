"""How long the load of a language model is waited for: one that hangs must not be awaited, without a reason told, for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.errors import ModelLoadError

if TYPE_CHECKING:
    from engine.generation.language_model import LanguageModel

log = logging.getLogger("vireo.generation")

Load = Callable[[], "LanguageModel"]
Close = Callable[["LanguageModel"], object]


def loaded_within(seconds: float, load: Load, *, give_up: Callable[[], object], close: Close) -> LanguageModel:
    """What `load` gives or raises, on a daemon thread of its own. Raises ModelLoadError after `seconds`.

    No thread can be stopped: `give_up` ends what `load` may be waiting for, and what it makes all the same goes to `close`.
    """
    made: Future[LanguageModel] = Future()
    threading.Thread(target=_work, args=(load, made, close), name="vireo-language-load", daemon=True).start()
    try:
        return made.result(seconds)
    except TimeoutError as error:
        if not made.cancel():
            return made.result()  # it has come meanwhile, or the TimeoutError is its own
        give_up()
        raise ModelLoadError(f"it hangs: it was not loaded within {seconds:g} s (load_s_max)") from error


def _work(load: Load, made: Future[LanguageModel], close: Close) -> None:
    try:
        model = load()
    except BaseException as error:
        with suppress(InvalidStateError):  # given up
            made.set_exception(error)
        return
    try:
        made.set_result(model)
    except InvalidStateError:  # given up
        try:
            close(model)
        except Exception:  # the engine may have ended meanwhile; nothing can be done about it
            log.exception("a language model that was given up, and loaded all the same, could not be closed")
