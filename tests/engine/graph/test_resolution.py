"""A graph resolved against signatures: what the plan says, and what is refused with the node and the tensor named."""

from __future__ import annotations

import pytest

from engine import FailedPrecondition, NotFound, Tensor
from engine.graph.plan import Condition, Constant, Plan
from engine.graph.port import Target
from engine.graph.resolution import resolve
from tests.engine.graph.signatures import finding, graph, target

FEATURES = target("features", "card INT64 -1", "features FP32 -1 26; age FP32 -1", version=4)
SCORE = target("gbdt", "x FP32 -1 26; prior? FP32 -1", "probability FP32 -1; reasons BYTES -1 3", rows_max=64)
LIGHT = target("light", "x FP32 -1 26", "reasons BYTES -1 3; probability FP32 -1", rows_max=32)
ASKED = target("asked", "x FP32 -1 26", "yes BOOL -1")
SAME = target("same", "x FP32 -1", "y FP32 -1")
WIDE = target("wide", "x FP32 -1 64", "y FP32 -1")
ANY = target("any", "x FP32 -1 -1", "y FP32 -1 -1")
ALONE = target("alone", "x FP32 -1", "y FP32 -1", batchable=False)
TEXT = target("text", "x BYTES -1", "y FP32 -1")
BITS = target("bits", "x FP32 -1", "y BF16 -1")
STREAM = target("stream", "x FP32 -1", "y FP32 -1; n INT64 -1", streams=True)
ALL = (FEATURES, SCORE, LIGHT, ASKED, SAME, WIDE, ANY, ALONE, TEXT, BITS, STREAM)

FRAUD = """
inputs: {card: {datatype: INT64, shape: [-1]}, amount: {datatype: FP32, shape: [-1], optional: true}}
slo_ms: 100
nodes:
  score:
    call: gbdt
    inputs: {x: features.features, prior: amount}
    timeout_ms: 2.5
    on_error: {default: {probability: 0.5}}
    on_late: {call: light}
  features: {call: features, inputs: {card: card}}
outputs: {p: score.probability, card: card}
"""


def plan(text: str, *targets: Target) -> Plan:
    """Graph `g` resolved."""
    return resolve("g", graph(text), finding(*targets, *ALL))


def shape_of(text: str, *nodes: str, outputs: str = "", datatype: str = "FP32", shape: str = "[-1]") -> str:
    """A graph over one input x."""
    outputs = outputs or f"y: {text.split(':')[0].strip()}.y"
    lines = "".join(f"\n  {each}" for each in (text, *nodes))
    return f"inputs: {{x: {{datatype: {datatype}, shape: {shape}}}}}\nnodes:{lines}\noutputs: {{{outputs}}}"


def test_plan_says_who_computes_what_and_where_it_lies() -> None:
    made = plan(FRAUD)
    assert (made.name, made.input_names, made.slots, made.slo_ns) == ("g", ("card", "amount"), 4, 100_000_000)
    features, score = made.nodes
    assert (features.name, features.target, features.needs, features.consumers) == ("features", FEATURES, (), (1,))
    assert (features.outputs, features.slots) == (("features",), (2,))
    assert (score.name, score.target, score.needs, score.consumers) == ("score", SCORE, (0,), ())
    assert (score.outputs, score.slots) == (("probability",), (3,))
    assert [(each.name, each.choices) for each in score.wires] == [("x", (2,)), ("prior", (1,))]
    assert [(each.spec.name, each.choices) for each in made.outputs] == [("p", (3,)), ("card", (0,))]
    assert score.timeout_ns == 2_500_000


def test_fallbacks_write_the_slots_of_their_node() -> None:
    score = plan(FRAUD).nodes[1]
    assert score.on_error is not None
    assert score.on_error.values is not None
    ((slot, constant),) = score.on_error.values
    assert (slot, constant.rows, constant.of(3).array.tolist()) == (3, True, [0.5, 0.5, 0.5])
    assert score.on_late is not None
    assert score.on_late.target is LIGHT
    assert [(each.name, each.choices) for each in score.on_late.wires] == [("x", (2,))]  # `prior` it does not know


def test_signature_counts_rows_where_everything_does() -> None:
    signature = plan(FRAUD).signature
    assert signature.batchable
    assert signature.rows_max == 32  # the lighter one's
    assert [(each.name, each.datatype.name, each.shape, each.optional) for each in signature.inputs] == [
        ("card", "INT64", (-1,), False), ("amount", "FP32", (-1,), True),
    ]  # fmt: skip
    assert [(each.name, each.datatype.name, each.shape) for each in signature.outputs] == [
        ("p", "FP32", (-1,)), ("card", "INT64", (-1,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        shape_of("n: {call: alone, inputs: {x: x}}"),
        shape_of("n: {call: same, inputs: {x: x}, on_error: {call: alone}}"),
        shape_of("n: {call: same, inputs: {x: x}}", shape="[8]"),
        shape_of("n: {call: some, inputs: {x: m.y}}", "m: {call: same, inputs: {x: x}, when: x > 0}"),
    ],
    ids=["a node", "what stands in for one", "an input", "a node that may get no input"],
)
def test_graph_counts_no_rows_where_something_does_not(text: str) -> None:
    assert not plan(text, target("some", "x? FP32 -1", "y FP32 -1")).signature.batchable


def test_outputs_nobody_uses_get_no_slot_unless_none_is_used() -> None:
    text = shape_of("n: {call: features, inputs: {card: x}}", outputs="y: n.age", datatype="INT64")
    assert plan(text).nodes[0].outputs == ("age",)
    text = FRAUD + "records: {r: {log: kept, columns: {id: $id, p: side.age}, when: side.age > 3}}\n"
    text = text.replace("nodes:", "nodes:\n  side: {call: features, inputs: {card: card}}")
    made = plan(text)
    side = next(each for each in made.nodes if each.name == "side")
    assert side.outputs == ("age",)
    (record,) = made.records
    assert (record.name, record.log, record.durable) == ("r", "kept", False)
    assert [(each.name, each.word, each.choices) for each in record.columns] == [
        ("id", "$id", ()),
        ("p", "", side.slots),
    ]
    assert record.when == Condition(side.slots, ">", 3.0)


def test_shape_of_an_output_is_what_all_say_of_it() -> None:
    text = shape_of(
        "n: {call: any, inputs: {x: x}}",
        "m: {call: wide, inputs: {x: n.y}}",
        outputs="y: n.y, z: m.y",
        shape="[-1, -1]",
    )
    assert [each.shape for each in plan(text).signature.outputs] == [(-1, 64), (-1,)]
    text = text.replace("{x: n.y}", "{x: n.y}, when: x > 0").replace(", z: m.y", "")
    text += "\nrecords: {r: {log: kept, columns: {p: m.y}}}"
    assert [each.shape for each in plan(text).signature.outputs] == [(-1, -1)]  # it may not have run


def test_list_of_references_ends_with_what_is_there() -> None:
    text = shape_of(
        "n: {call: same, inputs: {x: x}, when: x > 0}", "m: {call: same, inputs: {x: x}}", outputs="y: [n.y, m.y]"
    )
    made = plan(text)
    assert made.outputs[0].choices == (1, 2)
    assert made.nodes[0].when == Condition((0,), ">", 0.0)


def test_otherwise_makes_a_conditional_node_sure() -> None:
    text = shape_of("n: {call: same, inputs: {x: x}, when: x > 0, otherwise: {y: 7}}")
    made = plan(text)
    ((slot, constant),) = made.nodes[0].otherwise
    assert (slot, constant.of(2).array.tolist()) == (1, [7.0, 7.0])


def test_nodes_of_one_condition_may_rely_on_each_other() -> None:
    text = shape_of(
        "n: {call: same, inputs: {x: x}, when: x > 0}",
        "m: {call: same, inputs: {x: n.y}, when: x > 0, otherwise: {y: 1}}",
        outputs="y: m.y",
    )
    assert [each.needs for each in plan(text).nodes] == [(), (0,)]


def test_cached_answer_has_its_key() -> None:
    text = shape_of(
        "n: {call: same, inputs: {x: m.y}, on_late: {cached: {key: m.y}}}", "m: {call: same, inputs: {x: x}}"
    )
    fallback = plan(text).nodes[1].on_late
    assert fallback is not None
    assert fallback.cached is not None
    assert fallback.cached_key == (1,)


def test_graph_streams_where_its_last_node_does() -> None:
    made = plan(shape_of("n: {call: stream, inputs: {x: m.y}}", "m: {call: same, inputs: {x: x}}"))
    assert made.streams
    assert made.nodes[-1].outputs == ("y", "n")  # all of them


@pytest.mark.parametrize(
    ("inputs", "constant", "rows", "value"),
    [
        ("FP32 -1", "3", 2, [3.0, 3.0]),
        ("FP32 -1 3", "0.5", 2, [[0.5] * 3] * 2),
        ("FP32 -1 3", "[1, 2, 3]", 2, [[1.0, 2.0, 3.0]] * 2),
        ("FP32 -1 -1", "[1, 2, 3]", 1, [[1.0, 2.0, 3.0]]),
        ("INT8 2 2", "[1, 2, 3, 4]", 5, [[1, 2], [3, 4]]),
        ("FP64 2", ".inf", 5, [float("inf")] * 2),
        ("BOOL -1", "true", 2, [True, True]),
        ("BYTES -1 2", "[a, 'é']", 2, [[b"a", "é".encode()]] * 2),
        ("BYTES -1", "word", 2, [b"word"] * 2),
        ("UINT64 1", "18446744073709551615", 1, [2**64 - 1]),
        ("FP32", "2", 1, 2.0),
    ],
)
def test_declared_value_becomes_a_tensor(inputs: str, constant: str, rows: int, value: object) -> None:
    text = shape_of(f"n: {{call: c, inputs: {{x: x, c: {{value: {constant}}}}}}}")
    made = plan(text, target("c", f"x FP32 -1; c {inputs}", "y FP32 -1")).nodes[0].wires[1].constant
    assert isinstance(made, Constant)
    tensor: Tensor = made.of(rows)
    assert tensor.array.tolist() == value
    assert tensor.array.dtype == tensor.datatype.dtype


@pytest.mark.parametrize(
    ("inputs", "constant", "words"),
    [
        ("FP32 -1 -1", "3", "one value for FP32 [-1, -1] needs a fixed shape"),
        ("FP32 -1 3", "[1, 2]", "3 values"),
        ("FP32 -1", "[1, 2]", "a list of 2 values makes no FP32 [-1]"),
        ("FP32 -1 2 -1", "[1, 2, 3]", "2 values"),
        ("INT8 1", "200", "whole number from -128 to 127 for INT8, got '200'"),
        ("INT8 1", "1.5", "whole number from -128 to 127 for INT8, got '1.5'"),
        ("FP32 1", "1.0e+39", "FP32 holds no number as large as '1e+39'"),
        ("BOOL 1", "1", "expected true or false for BOOL"),
        ("FP32 1", "word", "expected a number for FP32, got 'word'"),
        ("BYTES 1", "3", "expected text for BYTES, got '3'"),
    ],
)
def test_value_that_does_not_fit_is_refused(inputs: str, constant: str, words: str) -> None:
    text = shape_of(f"n: {{call: c, inputs: {{x: x, c: {{value: {constant}}}}}}}")
    with pytest.raises(FailedPrecondition) as refused:
        plan(text, target("c", f"x FP32 -1; c {inputs}", "y FP32 -1"))
    assert refused.value.message.startswith("graph 'g', node 'n', input 'c': ")
    assert words in refused.value.message


ONE = "n: {call: same, inputs: {x: x}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            shape_of("n: {call: wide, inputs: {x: m.features}}", "m: {call: features, inputs: {card: x}}", datatype="INT64"),
            "graph 'g', node 'n', input 'x': expected FP32 [-1, 64], 'm.features' gives FP32 [-1, 26]",
        ),
        (
            shape_of("n: {call: text, inputs: {x: m.age}}", "m: {call: features, inputs: {card: x}}", datatype="INT64"),
            "graph 'g', node 'n', input 'x': expected BYTES [-1], 'm.age' gives FP32 [-1]",
        ),
        (
            shape_of("n: {call: wide, inputs: {x: x}}"),
            "graph 'g', node 'n', input 'x': expected FP32 [-1, 64], 'x' gives FP32 [-1]",
        ),
        (
            shape_of(
                "n: {call: wide, inputs: {x: x}}", "m: {call: asked, inputs: {x: x}}", outputs="y: n.y, z: m.yes",
                shape="[-1, -1]",
            ),
            "graph 'g', node 'm', input 'x': expected FP32 [-1, 26], 'x' gives FP32 [-1, 64], for node 'n' takes FP32 [-1, 64]",
        ),
        (
            shape_of("n: {call: same, inputs: {x: m.z}}", "m: {call: same, inputs: {x: x}}"),
            "graph 'g', node 'n', input 'x': 'm.z': 'same' version 1 has no output 'z'; known: 'y'",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x, ex: x}}"),
            "graph 'g', node 'n', input 'ex': 'same' version 1 has no such input; nearest: 'x'",
        ),
        (
            shape_of("n: {call: gbdt, inputs: {prior: x}}", outputs="y: n.probability"),
            "graph 'g', node 'n', input 'x': 'gbdt' version 1 needs it, nothing is wired to it",
        ),
        (
            shape_of("n: {call: same, inputs: {x: m.y}}", "m: {call: same, inputs: {x: x}, when: x > 0}"),
            "graph 'g', node 'n', input 'x': 'm.y' may be missing, and 'same' version 1 needs it",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, when: 'm.y'}", "m: {call: same, inputs: {x: x}}", outputs="y: m.y")
            + "\nrecords: {r: {log: kept, columns: {p: n.y}}}",
            "graph 'g', node 'n', when: 'm.y' is FP32, not BOOL: compare it with a number",
        ),
        (
            shape_of(
                "n: {call: same, inputs: {x: x}, when: 'm.y > 1', otherwise: {y: 0}}", "m: {call: bits, inputs: {x: x}}"
            ),
            "graph 'g', node 'n', when: 'm.y' is BF16, which compares with no number",
        ),
        (
            shape_of(ONE, "m: {call: alone, inputs: {x: n.y}}", "b: {call: text2, inputs: {x: x}}", outputs="y: [b.y, m.y]"),
            "graph 'g', output 'y': expected INT64 [-1], 'm.y' gives FP32 [-1]",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_error: {default: {z: 1, y: 2}}}"),
            "graph 'g', node 'n', on_error.default.z: 'same' version 1 has no output 'z'; known: 'y'",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_error: {default: {y: [1, 2]}}}"),
            "graph 'g', node 'n', on_error.default.y: a list of 2 values makes no FP32 [-1]",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_late: {call: light}}"),
            "graph 'g', node 'n', on_late: 'light' version 1 has no output 'y', which is used",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_late: {call: text2}}"),
            "graph 'g', node 'n', on_late: 'text2' version 1 gives 'y' as INT64 [-1], 'same' version 1 as FP32 [-1]",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_late: {call: text}}"),
            "graph 'g', node 'n', on_late, input 'x': expected BYTES [-1], 'x' gives FP32 [-1]",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_late: {call: two}}"),
            "graph 'g', node 'n', on_late, input 'z': 'two' version 1 needs it, nothing is wired to it",
        ),
        (
            shape_of("n: {call: same, inputs: {x: x}, on_late: {call: stream}}"),
            "graph 'g', node 'n', on_late: 'stream' version 1 streams, and cannot stand in for one answer",
        ),
        (
            shape_of("n: {call: same, inputs: {x: m.y}}", "m: {call: stream, inputs: {x: x}}"),
            "graph 'g': node 'm': 'stream' streams, which only the last node may: node 'n' comes after it",
        ),
        (
            shape_of(ONE, "m: {call: stream, inputs: {x: x}}", outputs="y: n.y, z: m.y"),
            "graph 'g': node 'm': 'stream' streams, so all others come before it: node 'n' does not",
        ),
        (
            shape_of(ONE, "m: {call: stream, inputs: {x: n.y}}", outputs="y: n.y, z: m.y"),
            "graph 'g': node 'm': 'stream' streams, so all outputs are its own: output 'y' is not",
        ),
        (
            shape_of("n: {call: stream, inputs: {x: x}, on_error: {default: {y: 1}}}"),
            "graph 'g': node 'n': 'stream' streams, and what is sent cannot be taken back: 'on_error' is not for it",
        ),
        (
            shape_of("n: {call: stream, inputs: {x: x}}") + "\nrecords: {r: {log: kept, columns: {p: n.y}}}",
            "graph 'g': node 'n': 'stream' streams, and is not kept for record 'r': 'n.y'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_node_and_tensor(text: str, message: str) -> None:
    two = target("two", "x FP32 -1; z FP32 -1", "y FP32 -1")
    with pytest.raises(FailedPrecondition) as refused:
        plan(text, two, target("text2", "x FP32 -1", "y INT64 -1"))
    assert message in refused.value.message


def test_what_is_not_there_is_named_with_its_node() -> None:
    with pytest.raises(NotFound, match="graph 'g', node 'n', on_error: model 'gone' is not found"):
        plan(shape_of("n: {call: same, inputs: {x: x}, on_error: {call: gone}}"))
    with pytest.raises(NotFound, match="graph 'g', node 'n': model 'gone' is not found"):
        plan(shape_of("n: {call: gone, inputs: {x: x}}"))
