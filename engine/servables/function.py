"""Python functions as servables: a callable over numpy arrays, found by `module:name`, with a declared signature.

A plain function is called with its input arrays by name and returns a mapping of output arrays. A generator function
yields such mappings and answers one request with many responses.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, cast

import numpy as np

from engine.errors import Internal, ModelLoadError, Unimplemented, VireoError, quoted
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, TensorSpec
from engine.tensor import BYTES, Array, Tensor, check_strings

Function = Callable[..., Any]


class FunctionServable:
    """Calls a Python function. As thread-safe as the function is; run it with one instance where it is not."""

    def __init__(self, name: str, function: Function, signature: Signature) -> None:
        self._name = name
        self._function = function
        self.signature = signature
        self.traits = Traits("python", "declared batchable" if signature.batchable else "declared not batchable")

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`."""
        return self._checked(self._call(inputs), inputs, outputs)

    def _call(self, inputs: Tensors) -> Any:  # noqa: ANN401  whatever the user's function returns
        try:
            return self._function(**{name: each.array for name, each in inputs.items()})
        except VireoError:
            raise
        except (Exception, SystemExit) as error:
            raise Internal(f"function {quoted(self._name)} raised {type(error).__name__}: {error}") from error

    def _checked(self, answer: object, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        if not isinstance(answer, Mapping):
            raise Internal(
                f"function {quoted(self._name)} must return a mapping of arrays, got {type(answer).__name__}"
            )
        answered: dict[str, Tensor] = {}
        for each in self.signature.outputs:
            if outputs and each.name not in outputs:
                continue
            if each.name not in answer:
                raise Internal(f"function {quoted(self._name)} returned no output {quoted(each.name)}")
            array = self._array(each, answer[each.name])
            if not each.takes(array.shape) or (self.signature.batchable and not _as_many(array, inputs)):
                raise self._misshapen(each, array, inputs)
            answered[each.name] = Tensor(each.datatype, array)
        return answered

    def _misshapen(self, spec: TensorSpec, array: Array, inputs: Tensors) -> Internal:
        rows = {each.array.shape[0] for each in inputs.values()} if self.signature.batchable else set()
        return Internal(
            f"function {quoted(self._name)} returned output {quoted(spec.name)} of shape {list(array.shape)}, declared is "
            f"{list(spec.shape)}{f' with {rows.pop()} row(s)' if rows else ''}"
        )

    def _array(self, spec: TensorSpec, value: Any) -> Array:  # noqa: ANN401
        known = spec.datatype is not BYTES and type(value) is np.ndarray and value.dtype is spec.datatype.dtype
        if known and value.flags.c_contiguous:
            return cast(Array, value)
        try:
            if spec.datatype is not BYTES:
                return np.asarray(value, spec.datatype.dtype, order="C")
            array = np.asarray(value, object, order="C")
            elements = array.reshape(-1).tolist()
            strings = check_strings(spec.name, elements)
            if strings is elements:  # all are bytes
                return array
            encoded = np.empty(array.shape, object)
            encoded.reshape(-1)[:] = strings
        except (TypeError, ValueError, OverflowError, VireoError) as error:
            raise Internal(
                f"function {quoted(self._name)} returned a wrong array as output {quoted(spec.name)}: {error}"
            ) from error
        return encoded

    def close(self) -> None:
        """A function holds nothing."""


class StreamingFunctionServable(FunctionServable):
    """Calls a generator function; each mapping it yields is one response."""

    def stream(self, inputs: Tensors, outputs: Sequence[str]) -> Generator[Tensors, None, None]:
        """See `StreamingServable.stream`."""
        answers = self._call(inputs)
        try:
            for answer in answers:
                yield self._checked(answer, inputs, outputs)
        except (VireoError, GeneratorExit):
            raise
        except (Exception, SystemExit) as error:
            raise Internal(f"function {quoted(self._name)} raised {type(error).__name__}: {error}") from error
        finally:
            answers.close()

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """The one response; Unimplemented where there is not exactly one."""
        with closing(self.stream(inputs, outputs)) as stream:
            answers = list(islice(stream, 2))  # a stream may have no end
        if len(answers) != 1:
            gave = "more than one response" if answers else "no response"
            raise Unimplemented(
                f"function {quoted(self._name)} gave {gave}; a unary call needs exactly 1, a stream any"
            )
        return answers[0]


def _as_many(array: Array, inputs: Tensors) -> bool:
    """Whether an output has as many rows as the inputs, which are known to agree."""
    for each in inputs.values():
        return bool(array.shape[0] == each.array.shape[0])
    return True


def named_callable(owner: str, target: str) -> Callable[..., Any]:
    """What "package.module:name" means. Raises ModelLoadError, beginning with `owner`, where it can't be imported or called."""
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise ModelLoadError(f"{owner}: cannot import {quoted(target)}: {error}") from error
    if not callable(found):
        raise ModelLoadError(f"{owner}: {quoted(target)} is not callable")
    return cast(Callable[..., Any], found)


def load_function(name: str, target: str, signature: Signature) -> FunctionServable:
    """The function `target` ("package.module:name"). Raises ModelLoadError where it cannot be imported."""
    function = named_callable(f"function {quoted(name)}", target)
    kind = StreamingFunctionServable if inspect.isgeneratorfunction(function) else FunctionServable
    return kind(name, function, signature)
