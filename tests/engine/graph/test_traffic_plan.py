"""Variants of a split must be alike to whoever calls it; what differs is told with the variant and the tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from engine import FailedPrecondition, NotFound, Signature, TensorSpec, datatype_named
from engine.graph.declaration import ShadowSpec, TrafficSpec, VariantSpec
from engine.graph.port import NodePort, Target
from engine.graph.traffic import TrafficPlan, resolve_traffic
from tests.engine.graph.splits import KEYED, Plus, running

Shape = tuple[int, ...]
Tensors = Mapping[str, tuple[str, Shape] | tuple[str, Shape, bool]]


def signature(inputs: Tensors, outputs: Tensors, *, batchable: bool = True, rows_max: int | None = None) -> Signature:
    """Tensors by name: (datatype, shape), optional with True."""

    def specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, datatype_named(datatype, of=name), shape, bool(optional))
            for name, (datatype, shape, *optional) in tensors.items()
        )

    return Signature(specs(inputs), specs(outputs), batchable, rows_max)


X, Y = {"x": ("FP32", (-1, 3))}, {"y": ("FP32", (-1,))}


@pytest.fixture
def port() -> NodePort:
    """A port that nothing is sent to."""
    with running({"a": Plus(1.0)}, {"a": 1}) as split:
        return split.workers["a"]


Resolve = Callable[..., TrafficPlan]


@pytest.fixture
def resolve(port: NodePort) -> Resolve:
    """Resolves a split of variants a, b, ... with these signatures; `shadow` with another."""

    def resolved(
        *signatures: Signature, key: str | None = None, shadow: Signature | None = None, streams: tuple[bool, ...] = ()
    ) -> TrafficPlan:
        named = dict(zip("abc", signatures, strict=False))
        flags = dict(zip("abc", streams, strict=False))
        spec = TrafficSpec(
            {name: VariantSpec(f"model_{name}", 1.0, 2) for name in named},
            key,
            {"next": ShadowSpec("model_shadow", 2, 0.5)} if shadow else {},
        )

        def find(name: str, version: int | None) -> Target:
            found = shadow if name == "model_shadow" else named.get(name.removeprefix("model_"))
            if found is None:
                raise NotFound(f"unknown model '{name}'")
            return Target(name, version or 1, found, flags.get(name[-1], False), port)

        return resolve_traffic("s", spec, find)

    return resolved


def test_split_promises_what_every_variant_keeps(resolve: Resolve) -> None:
    one = signature({"x": ("FP32", (-1, -1)), "z": ("INT64", (-1,), True)}, {"y": ("FP32", (-1, 2))}, rows_max=64)
    other = signature(
        {"more": ("FP32", (-1,), True), "x": ("FP32", (-1, 3))},
        {"extra": ("FP32", (-1,)), "y": ("FP32", (-1, -1))},
        rows_max=32,
    )
    plan = resolve(one, other, key="z")
    assert plan.signature == signature(
        {"x": ("FP32", (-1, 3)), "z": ("INT64", (-1,), True)}, {"y": ("FP32", (-1, -1))}, rows_max=32
    )
    assert [each.drops for each in plan.variants] == [(), ("z",)]
    assert [each.outputs for each in plan.variants] == [(), ("y",)]
    assert not resolve(one, signature(X, {"y": ("FP32", (-1, 2))}, batchable=False)).signature.batchable


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (signature({"x": ("FP64", (-1, 3))}, Y), "input 'x': 'model_b' version 2 takes FP64 [-1, 3], 'a' FP32 [-1, 3]"),
        (signature({"x": ("FP32", (-1, 4))}, Y), "input 'x': 'model_b' version 2 takes FP32 [-1, 4], 'a' FP32 [-1, 3]"),
        (signature({"x": ("FP32", (-1,))}, Y), "input 'x': 'model_b' version 2 takes FP32 [-1], 'a' FP32 [-1, 3]"),
        (signature({}, Y), "'model_b' version 2 has no input 'x', which 'a' takes"),
        (signature({**X, "z": ("FP32", (-1,))}, Y), "'model_b' version 2 needs input 'z', which 'a' does not take"),
        (signature(X, {"w": ("FP32", (-1,))}), "'model_b' version 2 has no output 'y', which 'a' gives"),
        (signature(X, {"y": ("FP64", (-1,))}), "output 'y': 'model_b' version 2 gives FP64 [-1], 'a' FP32 [-1]"),
    ],
)
def test_variant_that_differs_is_refused_with_the_place(resolve: Resolve, other: Signature, message: str) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        resolve(signature(X, Y), other)
    assert refused.value.message.startswith("split 's', variant 'b'")
    assert message in refused.value.message


def test_input_that_is_optional_for_the_first_is_optional_for_all(resolve: Resolve) -> None:
    maybe = {"x": ("FP32", (-1, 3), True)}
    with pytest.raises(FailedPrecondition, match=r"variant 'b': 'model_b' version 2 needs input 'x', optional for 'a'"):
        resolve(signature(maybe, Y), signature(X, Y))
    assert not resolve(signature(X, Y), signature(maybe, Y)).signature.inputs[0].optional


@pytest.mark.parametrize(
    ("key", "inputs", "message"),
    [
        ("us", {"user": ("INT64", (-1,))}, "its variants take no input 'us'; nearest: 'user'"),
        ("user", {"user": ("FP32", (-1,))}, "is FP32; a key is BYTES or whole numbers"),
        ("user", {"user": ("BF16", (-1,))}, "is BF16; a key is BYTES or whole numbers"),
        ("user", {"user": ("BOOL", (-1,))}, "is BOOL; a key is BYTES or whole numbers"),
        ("user", {"user": ("INT64", (-1, 2))}, "has shape [-1, 2]; a key is one value a row"),
    ],
)
def test_key_must_be_an_input_of_one_value_a_row(resolve: Resolve, key: str, inputs: Tensors, message: str) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        resolve(signature(inputs, Y), key=key)
    assert refused.value.message.startswith("split 's', key")
    assert message in refused.value.message


@pytest.mark.parametrize("datatype", ["BYTES", "UINT64", "INT8"])
def test_key_may_be_a_text_or_a_whole_number(resolve: Resolve, datatype: str) -> None:
    for shape in ((-1,), (-1, 1), (-1, -1)):
        assert resolve(signature({"user": (datatype, shape)}, Y), key="user").key == "user"
    assert resolve(signature(X, Y), key="$id").key == "$id"
    assert resolve(KEYED).key is None


def test_variant_that_is_not_there_is_named(resolve: Resolve, port: NodePort) -> None:
    def nowhere(name: str, version: int | None) -> Target:
        raise NotFound(f"unknown model '{name}'")

    with pytest.raises(NotFound, match=r"^split 's', variant 'a': unknown model 'm'"):
        resolve_traffic("s", TrafficSpec({"a": VariantSpec("m", 1.0)}), nowhere)


def test_either_all_variants_stream_or_none(resolve: Resolve) -> None:
    with pytest.raises(
        FailedPrecondition, match="all variants stream their answers or none does; 'a' streams, 'b' does not"
    ):
        resolve(signature(X, Y), signature(X, Y), streams=(True, False))
    assert resolve(signature(X, Y), signature(X, Y), streams=(True, True)).streams


def test_shadow_must_take_what_the_split_takes_and_may_give_anything(resolve: Resolve) -> None:
    plan = resolve(signature(X, Y), shadow=signature(X, {"other": ("INT8", (-1,))}))
    assert [(each.name, each.share) for each in plan.shadows] == [("next", 0.5)]
    with pytest.raises(FailedPrecondition, match="split 's', shadow 'next': 'model_shadow' version 2 has no input 'x'"):
        resolve(signature(X, Y), shadow=signature({}, Y))
