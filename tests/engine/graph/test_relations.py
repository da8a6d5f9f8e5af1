"""What a spec says of graphs is refused with its exact place where it cannot work."""
# ruff: noqa: E501  specs are read line by line

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from engine import Spec, SpecError, parse_spec
from engine.limits import GRAPH_DEPTH_MAX, GRAPH_NODES_MAX

SPEC = """
functions:
  amounts: {call: 'm:f', batchable: true, inputs: {amount: {datatype: FP64, shape: [-1]}}, outputs: {row: {datatype: FP32, shape: [-1, 2]}, large: {datatype: BOOL, shape: [-1]}}}
  score: {call: 'm:f', batchable: true, inputs: {x: {datatype: FP32, shape: [-1, 2]}, z: {datatype: FP32, shape: [-1], optional: true}}, outputs: {p: {datatype: FP32, shape: [-1]}, why: {datatype: BYTES, shape: [-1]}}}
  light: {call: 'm:f', batchable: true, inputs: {x: {datatype: FP32, shape: [-1, 2]}}, outputs: {p: {datatype: FP32, shape: [-1]}}}
  decide: {call: 'm:f', batchable: true, inputs: {p: {datatype: FP32, shape: [-1]}}, outputs: {block: {datatype: BOOL, shape: [-1]}, half: {datatype: BF16, shape: [-1]}}}
logs:
  events: {schema: {card: string, amount: float64, at: timestamp}, local: {path: log}}
  decisions: {schema: {id: {type: string, nullable: false}, at: timestamp, card: string, p: float32, row: float32, count: int64, ledger: string}, local: {path: decisions}}
feature_views:
  card: {source: events, entity: card, event_time: at, features: {count: {aggregation: count, window: 1h, kind: sawtooth}}}
graphs:
  fraud:
    inputs:
      card: {datatype: BYTES, shape: [-1]}
      amount: {datatype: FP64, shape: [-1]}
      limit: {datatype: FP32, shape: [-1], optional: true}
    slo_ms: 100
    nodes:
      history: {call: card, inputs: {card: card}}
      amounts: {call: amounts, inputs: {amount: amount}}
      quick:
        call: light
        inputs: {x: amounts.row}
      score:
        call: score
        inputs: {x: amounts.row, z: limit}
        when: quick.p > 0.5
        otherwise: {why: none}
        timeout_ms: 40
        on_error: {default: {p: 0.5, why: unknown}}
        on_late: {cached: {key: card, max_age: 5m}}
      decide:
        call: decide
        inputs:
          p: [score.p, quick.p]
    outputs:
      block: decide.block
      p: [score.p, quick.p]
      why: score.why
    records:
      decision:
        log: decisions
        when: decide.block
        columns: {id: $id, at: $time, card: card, p: score.p, count: history.event_time, ledger: $ledger}
  outer:
    inputs: {amount: {datatype: FP64, shape: [-1]}, card: {datatype: BYTES, shape: [-1]}}
    nodes:
      inner: {call: fraud, inputs: {amount: amount, card: card}}
    outputs: {p: inner.p}
"""


def read(text: str) -> Spec:
    """The spec in `text`."""
    return parse_spec(text, folder=Path(), source="s.yaml")


def refused(text: str) -> str:
    """Why `text` is."""
    with pytest.raises(SpecError) as caught:
        read(text)
    return caught.value.message


def changed(old: str, new: str) -> str:
    """The spec above with one thing changed."""
    assert SPEC.count(old) == 1
    return SPEC.replace(old, new)


def test_graph_that_makes_sense_is_read() -> None:
    spec = read(SPEC)
    assert list(spec.graphs) == ["fraud", "outer"]
    assert spec.graphs["fraud"].nodes["decide"].inputs == {"p": ("score.p", "quick.p")}


CASES = [
    # References.
    ("{x: amounts.row}\n      score", "{x: amount.row}  # here\n      score", "nodes.quick.inputs.x",
     "'amount.row': the graph has no node 'amount'; nearest: 'amounts'"),
    ("{x: amounts.row}\n      score", "{x: amounts.rows}  # here\n      score", "nodes.quick.inputs.x",
     "node 'amounts' calls function 'amounts', which has no output 'rows'; nearest: 'row'"),
    ("amounts: {call: amounts, inputs: {amount: amount}}", "amounts: {call: amounts, inputs: {amount: amout}}  # here",
     "nodes.amounts.inputs.amount", "the graph has no input 'amout'; nearest: 'amount'"),
    ("block: decide.block\n", "block: decide  # here\n", "outputs.block",
     "'decide' is a node: name one of its outputs, such as 'decide.block'"),
    ("{x: amounts.row}\n      score", "{x: ''}  # here\n      score", "nodes.quick.inputs.x", "expected a reference"),
    ("          p: [score.p, quick.p]", "          p: [score.p, quick.q]  # here", r"nodes.decide.inputs.p\[1\]",
     "node 'quick' calls function 'light', which has no output 'q'; known: 'p'"),
    ("          p: [score.p, quick.p]", "          p: []  # here", "nodes.decide.inputs.p", "names no tensor"),
    ("history.event_time", "history.event_tim", "records.decision.columns.count",
     "node 'history' calls feature view 'card', which has no output 'event_tim'; nearest: 'event_time'"),
    ("inner.p", "inner.q  # here\n", "outputs.p", "node 'inner' calls graph 'fraud', which has no output 'q'"),
    # What is called.
    ("call: light\n", "call: ligth  # here\n", "nodes.quick.call", "there is no 'ligth' to call, and no repository with models; nearest: 'light'"),
    ("call: light\n", "call: light\n        version: 2  # here\n", "nodes.quick.version", "'light' has version 1 only, got 2"),
    ("call: light\n", "call: light\n        version: 0  # here\n", "nodes.quick.version", "versions are numbers from 1, got 0"),
    # Inputs of what is called.
    ("{x: amounts.row, z: limit}", "{x: amounts.row, zz: limit}  # here", "nodes.score.inputs.zz", "function 'score' has no input 'zz'; nearest: 'z'"),
    ("inputs: {x: amounts.row, z: limit}", "inputs: {z: limit}  # here", "nodes.score.inputs", "function 'score' needs input 'x'"),
    ("call: light\n        inputs: {x: amounts.row}", "call: light", "nodes.quick.inputs", "function 'light' needs input 'x'"),
    ("{x: amounts.row}\n      score", "{x: limit}  # here\n      score", "nodes.quick.inputs.x",
     r"'limit': expected shape \[-1, 2\], got \[-1\]"),
    ("{x: amounts.row}\n      score", "{x: amount}  # here\n      score", "nodes.quick.inputs.x", "'amount': expected datatype FP32, got FP64"),
    ("          p: [score.p, quick.p]", "          p: limit  # here", "nodes.decide.inputs.p", "'limit' may be missing, and 'decide' needs input 'p'"),
    ("          p: [score.p, quick.p]", "          p: [score.p, limit]  # here", "nodes.decide.inputs.p",
     "each of 'score.p', 'limit' may be missing, and 'decide' needs input 'p'"),
    ("          p: [score.p, quick.p]", "          p: {value: text}  # here", "nodes.decide.inputs.p", "expected a number for FP32, got 'text'"),
    ("          p: [score.p, quick.p]", "          p: {value: 1.0e+39}  # here", "nodes.decide.inputs.p", "FP32 holds no number as large as '1e.39'"),
    ("{x: amounts.row}\n      score", "{x: {value: [1, 2, 3]}}  # here\n      score", "nodes.quick.inputs.x",
     r"expected one row of 2 values for shape \[2\], got 3"),
    ("{call: card, inputs: {card: card}}", "{call: card, inputs: {crd: card}}  # here", "nodes.history.inputs.crd",
     "feature view 'card' has no input 'crd'; nearest: 'card'"),
    # Circles.
    ("{x: amounts.row}\n      score", "{x: quick.p}  # here\n      score", "nodes.quick.inputs.x", "node 'quick' waits for itself: quick -> quick"),
    ("{amount: amount}}\n      quick", "{amount: score.p}}  # here\n      quick", "nodes.amounts.inputs.amount",
     "nodes wait for each other in a circle: amounts -> score -> amounts|nodes wait for each other in a circle: amounts -> quick -> score -> amounts"),
    ("when: quick.p > 0.5", "when: decide.block  # here", "nodes.score.when", "nodes wait for each other in a circle: score -> decide -> score"),
    ("call: light\n", "call: fraud  # here\n", "nodes.quick.call", "'fraud' calls itself: fraud -> fraud"),
    ("call: light\n", "call: outer  # here\n", "nodes.quick.call", "graphs call each other in a circle: fraud -> outer -> fraud"),
    # Conditions.
    ("when: quick.p > 0.5", "when: quick.p  # here", "nodes.score.when", "'quick.p' is FP32, not BOOL: compare it, such as 'quick.p > 0.5'"),
    ("when: quick.p > 0.5", "when: card == 3  # here", "nodes.score.when", "'card' is BYTES, which compares with no number"),
    ("when: decide.block", "when: decide.half > 1  # here", "records.decision.when", "'decide.half' is BF16, which compares with no number"),
    ("when: quick.p > 0.5", "when: quick.p => 0.5  # here", "nodes.score.when", "expected a condition such as"),
    ("when: quick.p > 0.5", "when: quick.q > 0.5  # here", "nodes.score.when", "node 'quick' .* has no output 'q'; known: 'p'"),
    ("when: quick.p > 0.5", "when: quick.p > high  # here", "nodes.score.when", "expected a number after the operator"),
    ("        when: quick.p > 0.5\n        otherwise: {why: none}", "        otherwise: {why: none}  # here", "nodes.score.otherwise", "belongs to 'when'"),
    ("otherwise: {why: none}", "otherwise: {wy: none}  # here", "nodes.score.otherwise.wy", "function 'score' has no output 'wy'; nearest: 'why'"),
    ("otherwise: {why: none}", "otherwise: {why: 3}  # here", "nodes.score.otherwise.why", "expected text for BYTES, got '3'"),
    ("        otherwise: {why: none}\n", "", "outputs.why", "'score.why' may be missing, and a graph answers all its outputs"),
    ("      p: [score.p, quick.p]\n      why", "      p: score.p  # here\n      why", "outputs.p", "'score.p' may be missing"),
    # Time.
    ("timeout_ms: 40", "timeout_ms: 140  # here", "nodes.score.timeout_ms", "140 ms exceed the graph's slo_ms of 100"),
    ("timeout_ms: 40", "timeout_ms: 0  # here", "nodes.score.timeout_ms", "must be from 0.001 to 86400000, got 0"),
    ("timeout_ms: 40", "timeout_ms: .nan  # here", "nodes.score.timeout_ms", "must be from 0.001"),
    ("slo_ms: 100", "slo_ms: -1  # here", "slo_ms", "must be from 0.001"),
    ("timeout_ms: 40", "timeout_share: 0  # here", "nodes.score.timeout_share", "must be above 0 and at most 1, got 0"),
    ("timeout_ms: 40", "timeout_share: 1.5  # here", "nodes.score.timeout_share", "must be above 0 and at most 1, got 1.5"),
    ("call: light\n        inputs: {x: amounts.row}\n      score:", "call: light\n        timeout_ms: 61\n        inputs: {x: amounts.row}\n      score:",
     "nodes.score.timeout_ms", "the bounds along quick -> score add up to 101 ms, more than the graph's slo_ms of 100"),
    ("call: light\n        inputs: {x: amounts.row}\n      score:", "call: light\n        timeout_share: 0.7\n        inputs: {x: amounts.row}\n      score:",
     "nodes.score.timeout_ms", "the bounds along quick -> score add up to 110 ms"),
    ("        call: decide\n", "        call: decide\n        timeout_share: 0.7  # here\n", "nodes.decide.timeout_share",
     "the bounds along score -> decide add up to 110 ms"),
    # Fallbacks.
    ("{default: {p: 0.5, why: unknown}}", "{}  # here", "nodes.score.on_error", "give exactly one of 'default', 'call' and 'cached'"),
    ("{default: {p: 0.5, why: unknown}}", "{default: {p: 1}, call: light}  # here", "nodes.score.on_error", "give exactly one"),
    ("{default: {p: 0.5, why: unknown}}", "{default: {p: 0.5}}  # here", "nodes.score.on_error.default", "no value for output 'why', which is used"),
    ("{default: {p: 0.5, why: unknown}}", "{default: {p: x, why: u}}  # here", "nodes.score.on_error.default.p", "expected a number for FP32, got 'x'"),
    ("{default: {p: 0.5, why: unknown}}", "{default: {p: 0, why: u}, version: 1}  # here", "nodes.score.on_error.version", "belongs to 'call'"),
    ("{default: {p: 0.5, why: unknown}}", "{default: {q: 0}}  # here", "nodes.score.on_error.default.q", "function 'score' has no output 'q'"),
    ("{default: {p: 0.5, why: unknown}}", "{call: light}  # here", "nodes.score.on_error.call", "function 'light' has no output 'why', which is used"),
    ("{default: {p: 0.5, why: unknown}}", "{call: fraud}  # here", "nodes.score.on_error.call", "'fraud' calls itself"),
    ("{default: {p: 0.5, why: unknown}}", "{call: nobody}  # here", "nodes.score.on_error.call", "there is no 'nobody' to call"),
    ("{default: {p: 0.5, why: unknown}}", "{call: decide}  # here", "nodes.score.on_error.call", "function 'decide' needs input 'p'"),
    ("{default: {p: 0.5, why: unknown}}", "{call: score, inputs: {x: decide.half}}  # here", "nodes.score.on_error.inputs.x",
     "'decide.half' is of node 'decide', for which node 'score' does not wait"),
    ("{default: {p: 0.5, why: unknown}}", "{call: score, inputs: {x: score.p}}  # here", "nodes.score.on_error.inputs.x", "'score.p' is of its own output"),
    ("{default: {p: 0.5, why: unknown}}", "{call: score, inputs: {x: amount}}  # here", "nodes.score.on_error.inputs.x", "'amount': expected datatype FP32"),
    ("{key: card, max_age: 5m}", "{key: crd}", "nodes.score.on_late.cached.key", "the graph has no input 'crd'; nearest: 'card'"),
    ("{key: card, max_age: 5m}", "{key: limit}", "nodes.score.on_late.cached.key", "'limit' may be missing when the node runs"),
    ("{key: card, max_age: 5m}", "{key: history.status}", "nodes.score.on_late.cached.key", "'history.status' is of node 'history', for which"),
    ("{key: card, max_age: 5m}", "{key: card, max_age: soon}", "nodes.score.on_late.cached.max_age", "expected a duration such as .*, got 'soon'"),
    ("{key: card, max_age: 5m}", "{key: card, entries_max: 0}", "nodes.score.on_late.cached.entries_max", "must be from 1 to"),
    # Names, inputs and what nobody uses.
    ("      quick:\n", "      amount:  # here\n", "nodes.amount", "the graph has an input 'amount' too: a tensor has one source"),
    ("      quick:\n", "      qu.ick:  # here\n", "nodes.qu.ick", "the name has no dot and begins with no"),
    ("      limit: {datatype: FP32, shape: [-1], optional: true}", "      limit: {datatype: FP31, shape: [-1]}  # here", "inputs.limit.datatype",
     "unknown datatype 'FP31'; nearest: 'FP32'"),
    ("      limit: {datatype: FP32, shape: [-1], optional: true}", "      limit: {datatype: FP32, shape: [-2]}  # here", "inputs.limit.shape",
     r"sizes are -1 or more, got \[-2\]"),
    ("count: history.event_time, ", "", "nodes.history", "nothing uses node 'history', neither an output nor a record"),
    # Records.
    ("log: decisions\n", "log: decision  # here\n", "records.decision.log", "no log 'decision'; nearest: 'decisions'"),
    ("at: $time", "att: $time", "records.decision.columns.att", "log 'decisions' has no column 'att'; nearest: 'at'"),
    ("id: $id, ", "", "records.decision.columns", "column 'id' of log 'decisions' is not nullable and is not filled"),
    ("id: $id, ", "id: score.why, ", "nothing", "nothing"),
    ("at: $time", "at: $tme", "records.decision.columns.at", r"unknown word '\$tme'; nearest: '\$time'"),
    ("at: $time", "at: $ledger", "records.decision.columns.at", r"\$ledger goes into a column of string, not timestamp"),
    ("p: score.p, count", "p: amounts.row, count", "records.decision.columns.p", r"'amounts.row' has shape \[-1, 2\]; a column takes one value a row"),
    ("p: score.p, count", "p: card, count", "records.decision.columns.p", "'card' is BYTES, which a column of float32 does not take"),
    ("when: decide.block", "when: score.p  # here", "records.decision.when", "'score.p' is FP32, not BOOL"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "message"), CASES)
def test_what_cannot_work_is_refused_with_its_place(old: str, new: str, key: str, message: str) -> None:
    text = changed(old, new)
    if key == "nothing":
        read(text)
        return
    lines = [number for number, line in enumerate(text.splitlines(), 1) if "# here" in line]
    found = refused(text)
    line = str(lines[0]) if lines else r"\d+"
    assert re.search(rf"^s.yaml:{line}: graphs.\w+.({key}): .*({message})", found), found


def test_key_written_twice_is_refused() -> None:
    text = changed("      why: score.why", "      why: score.why\n      block: decide.block")
    assert refused(text) == "s.yaml:41: graphs.fraud.outputs: key 'block' is written twice"


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("", "function"),
        ("feature_views: {light: {source: e, entity: card, event_time: at, features: {n: {aggregation: count}}}}\n"
         "logs: {e: {schema: {card: string, at: timestamp}, local: {path: log}}}\n", "feature view"),
        ("repository: {path: m}\nmodels: {light: {}}\n", "model"),
        ("traffic: {light: {variants: {a: {call: f, weight: 1}}}}\n", "graph"),
    ],
)  # fmt: skip
def test_name_belongs_to_one_servable(section: str, kind: str) -> None:
    name = "f" if kind == "function" else "light"
    text = (
        "functions: {f: {call: 'm:f', inputs: {x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}}\n"
        f"{section}graphs:\n  {name}: {{inputs: {{x: {{datatype: FP32, shape: [-1]}}}}, nodes: {{n: {{call: f, inputs: {{x: x}}}}}}, "
        "outputs: {y: n.y}}\n"
    )
    where = "traffic" if kind == "graph" else "graphs"
    assert re.search(rf"s.yaml:\d+: {where}.{name}: a {kind} has that name; both are called by it", refused(text))


def chain(count: int, first: str = "f") -> str:
    """Graphs of one node, each of which calls the one before."""
    names = [first, *(f"g{index}" for index in range(count))]
    return "graphs:\n" + "".join(
        f"  {name}: {{inputs: {{x: {{datatype: FP32, shape: [-1]}}}}, nodes: {{n: {{call: {called}, inputs: {{x: x}}}}}}, outputs: {{y: n.y}}}}\n"
        for called, name in pairwise(names)
    )


FUNCTION = "functions: {f: {call: 'm:f', inputs: {x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}}\n"


def test_graphs_call_each_other_only_so_deep() -> None:
    read(FUNCTION + chain(GRAPH_DEPTH_MAX))
    name = f"g{GRAPH_DEPTH_MAX}"
    assert refused(FUNCTION + chain(GRAPH_DEPTH_MAX + 1)) == (
        f"s.yaml:{GRAPH_DEPTH_MAX + 3}: graphs.{name}: graphs call each other {GRAPH_DEPTH_MAX + 1} deep, "
        f"at most {GRAPH_DEPTH_MAX} are allowed"
    )


def wide(count: int) -> str:
    """A graph of so many nodes one after the other."""
    nodes = "".join(f"      n{n}: {{call: f, inputs: {{x: {f'n{n - 1}.y' if n else 'x'}}}}}\n" for n in range(count))
    return (
        "graphs:\n  g:\n    inputs: {x: {datatype: FP32, shape: [-1]}}\n"
        f"    outputs: {{y: n{count - 1}.y}}\n    nodes:\n{nodes}"
    )


def test_graph_has_only_so_many_nodes() -> None:
    read(FUNCTION + wide(GRAPH_NODES_MAX))
    assert refused(FUNCTION + wide(GRAPH_NODES_MAX + 1)).startswith(
        f"s.yaml:6: graphs.g.nodes: a graph has from 1 to {GRAPH_NODES_MAX} nodes, got {GRAPH_NODES_MAX + 1}"
    )
    assert "nodes: a graph has from 1" in refused(
        "graphs: {g: {inputs: {x: {datatype: FP32, shape: [-1]}}, nodes: {}, outputs: {x: x}}}"
    )


def test_shares_along_a_path_are_no_more_than_the_whole() -> None:
    half = "graphs:\n  g:\n    inputs: {x: {datatype: FP32, shape: [-1]}}\n    outputs: {y: [b.y, c.y]}\n    nodes:\n"
    half += (
        "      a: {call: f, inputs: {x: x}, timeout_share: 0.5}\n      c: {call: f, inputs: {x: x}, timeout_share: 1}\n"
    )
    read(FUNCTION + half + "      b: {call: f, inputs: {x: a.y}, timeout_share: 0.5}\n")
    assert refused(FUNCTION + half + "      b: {call: f, inputs: {x: a.y}, timeout_share: 0.6}\n") == (
        "s.yaml:9: graphs.g.nodes.b.timeout_share: the shares along a -> b add up to 1.1, at most 1 is there"
    )


def test_branch_may_rely_on_what_its_own_condition_implies() -> None:
    graph = (
        "graphs:\n  g:\n    inputs: {x: {datatype: FP32, shape: [-1]}, o: {datatype: FP32, shape: [-1], optional: true}}\n"
        "    outputs: {y: %s}\n    nodes:\n"
        "      a: {call: f, inputs: {x: x}, when: x > 1}\n"
        "      b: {call: f, inputs: {x: a.y}, when: %s}\n"
        "      always: {call: f, inputs: {x: x}}\n"
        "      given: {call: f, inputs: {x: o}, when: o >= 0}\n"
    )
    good = "[b.y, given.y, always.y]"
    for same in ("x > 1", "x > 1.0", "a.y < 3", "b.y"):
        text = FUNCTION + graph % (good, same)
        if same == "b.y":
            assert "waits for itself" in refused(text)
        else:
            read(text)
    assert "nodes.b.inputs.x: 'a.y' may be missing" in refused(FUNCTION + graph % (good, "x > 2"))
    assert "nodes.b.inputs.x: 'a.y' may be missing" in refused(FUNCTION + graph % (good, "o > 2"))
    assert "outputs.y: each of 'b.y', 'given.y' may be missing" in refused(
        FUNCTION + (graph % ("[b.y, given.y]", "x > 1")).replace("      always: {call: f, inputs: {x: x}}\n", "")
    )


def test_models_of_a_repository_are_known_only_when_loaded() -> None:
    text = (
        "repository: {path: models}\ngraphs:\n  g:\n    inputs: {x: {datatype: FP32, shape: [-1]}}\n    outputs: {y: m.y, z: m.z}\n"
        "    nodes:\n      m: {call: some_model, version: 7, inputs: {anything: x}, when: x > 0, otherwise: {y: 0, z: [1, 2]}%s}\n"
    )
    read(text % "")
    assert "s.yaml:7: graphs.g.nodes.m.on_late.default: no value for output 'z', which is used" in refused(
        text % ", on_late: {default: {y: 0}}"
    )
    read(text % ", on_late: {default: {y: 0, z: 0}}, on_error: {call: other_model}")


def test_outputs_of_several_branches_are_alike() -> None:
    functions = FUNCTION[:-2] + ", i: {call: 'm:f', inputs: {}, outputs: {y: {datatype: INT64, shape: [-1]}}}}\n"
    text = "graphs: {g: {inputs: {}, nodes: {i: {call: i}, f: {call: f, inputs: {x: {value: 1}}}}, outputs: {y: [i.y, f.y]}}}"
    assert refused(functions + text) == (
        "s.yaml:2: graphs.g.outputs.y[1]: 'f.y': expected datatype INT64, got FP32, as the first is ('i.y')"
    )


def test_hostile_spec_is_refused_soon() -> None:
    nodes = wide(GRAPH_NODES_MAX).partition("  g:\n")[2]
    aliases = "".join(f"  g{number}: *g\n" for number in range(300))
    assert re.search(
        r"more than \d+ values, aliases counted each time", refused(f"{FUNCTION}graphs:\n  g: &g\n{nodes}{aliases}")
    )
    deep = "[" * 500 + "]" * 500
    assert "nested too deep" in refused(f"graphs: {{g: {{nodes: {{n: {{inputs: {{x: {deep}}}}}}}}}}}")
    assert "unknown key 'g'" in refused("graphs: &a {g: *a}")
    spaces = " " * 100_000
    text = f"graphs: {{g: {{inputs: {{x: {{datatype: FP32, shape: []}}}}, outputs: {{y: x}}, nodes: {{n: {{call: f, when: '{spaces}>'}}}}}}}}"
    assert "expected a condition" in refused(f"repository: {{path: m}}\n{text}")
