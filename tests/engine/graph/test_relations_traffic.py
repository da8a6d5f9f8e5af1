"""Splits, shadows and exposures that cannot work are refused with their exact place."""
# ruff: noqa: E501  specs are read line by line

from __future__ import annotations

import re

import pytest

from tests.engine.graph.test_relations import read, refused

SPEC = """
functions:
  old: {call: 'm:f', inputs: {user: {datatype: BYTES, shape: [-1]}, x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}
  new: {call: 'm:f', inputs: {user: {datatype: BYTES, shape: [-1]}, x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}, z: {datatype: FP32, shape: [-1]}}}
  more: {call: 'm:f', inputs: {user: {datatype: BYTES, shape: [-1]}, x: {datatype: FP32, shape: [-1]}, w: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}
  less: {call: 'm:f', inputs: {x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}
  other: {call: 'm:f', inputs: {user: {datatype: BYTES, shape: [-1]}, x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP64, shape: [-1]}}}
  another: {call: 'm:f', inputs: {user: {datatype: INT64, shape: [-1]}, x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}
logs:
  told: {schema: {experiment: string, variant: string, key: string, request_id: string, time: timestamp}, local: {path: told}}
traffic:
  split:
    key: user
    exposures: told
    variants:
      champion: {call: old, weight: 90}
      challenger: {call: new, weight: 10}
    shadows:
      dark: {call: other, share: 0.5}
graphs:
  g:
    inputs: {user: {datatype: BYTES, shape: [-1]}, x: {datatype: FP32, shape: [-1]}}
    nodes: {n: {call: split, inputs: {user: user, x: x}}}
    outputs: {y: n.y}
"""


def test_split_that_makes_sense_is_read() -> None:
    spec = read(SPEC)
    assert spec.traffic["split"].variants["champion"].weight == 90
    read(SPEC.replace("key: user\n", "key: $id\n"))
    read(SPEC.replace("    key: user\n", ""))
    read(SPEC.replace("    exposures: told\n", ""))
    read(SPEC.replace("weight: 10", "weight: 0"))


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("weight: 90", "weight: -1", "variants.champion.weight", "a weight is 0 or more, got -1"),
        ("weight: 90", "weight: .nan", "variants.champion.weight", "a weight is 0 or more, got nan"),
        ("weight: 90", "weight: .inf", "variants.champion.weight", "a weight is 0 or more, got inf"),
        ("{call: old, weight: 90}\n      challenger: {call: new, weight: 10}", "{call: old, weight: 0}", "variants", "the weights must have a sum above 0, got 0"),
        ("\n      champion: {call: old, weight: 90}\n      challenger: {call: new, weight: 10}", " {}", "variants", "a split needs at least one variant"),
        ("call: new", "call: nwe", "variants.challenger.call", "there is no 'nwe' to call"),
        ("call: new", "call: split", "variants.challenger.call", "'split' calls itself: split -> split"),
        ("call: new", "call: g", "variants.challenger.call", "graphs call each other in a circle: g -> split -> g|.*split -> g -> split"),
        ("call: other", "call: split", "shadows.dark.call", "'split' calls itself"),
        ("call: new", "call: new, version: 2", "variants.challenger.version", "'new' has version 1 only, got 2"),
        ("call: new", "call: more", "variants.challenger.call", "'more' needs input 'w', which 'old' does not take"),
        ("call: new", "call: less", "variants.challenger.call", "'less' has no input 'user', which 'old' takes"),
        ("call: new", "call: other", "variants.challenger.call", "output 'y' of 'other': expected datatype FP32, got FP64, as 'old'"),
        ("call: new", "call: another", "variants.challenger.call", "input 'user' of 'another': expected datatype BYTES, got INT64, as 'old'"),
        ("call: old, weight: 90}\n      challenger: {call: new", "call: new, weight: 90}\n      challenger: {call: old", "variants.challenger.call", "'old' has no output 'z', which 'new' has"),
        ("call: other", "call: less", "shadows.dark.call", "'less' has no input 'user'"),
        ("call: other", "call: nobody", "shadows.dark.call", "there is no 'nobody' to call"),
        ("share: 0.5", "share: 1.5", "shadows.dark.share", "must be from 0 to 1, got 1.5"),
        ("share: 0.5", "share: -0.5", "shadows.dark.share", "must be from 0 to 1"),
        ("key: user\n", "key: usr\n", "key", "'old' takes no input 'usr'; nearest: 'user'"),
        ("key: user\n", "key: x\n", "key", "'x' is FP32; a key is BYTES or whole numbers"),
        ("exposures: told", "exposures: tld", "exposures", "no log 'tld'; nearest: 'told'"),
        ("{experiment: string, ", "{", "exposures", "log 'told' has no column 'experiment', which exposures need"),
        ("variant: string", "variant: int64", "exposures", "column 'variant' of log 'told' must be string, not int64"),
        ("time: timestamp", "time: int64", "exposures", "column 'time' of log 'told' must be timestamp, not int64"),
        ("key: string", "key: {type: string, nullable: false}", "exposures", "column 'key' of log 'told' must be nullable"),
        ("time: timestamp", "other: {type: int8, nullable: false}", "exposures", "column 'other' of log 'told' is not nullable"),
    ],
)  # fmt: skip
def test_split_that_cannot_work_is_refused_with_its_place(old: str, new: str, key: str, message: str) -> None:
    assert SPEC.count(old) == 1
    text = SPEC.replace(old, new)
    found = refused(text)
    assert re.search(rf"^s.yaml:\d+: (traffic.split|graphs.g.nodes.n).({key}|call): .*({message})", found), found


def test_split_of_models_is_known_only_when_they_are_loaded() -> None:
    text = "repository: {path: m}\ntraffic: {s: {key: anything, variants: {a: {call: one, version: 3, weight: 1}}}}\n"
    read(text)
    graph = "graphs: {g: {inputs: {}, nodes: {n: {call: s, version: 2}}, outputs: {y: n.y}}}"
    assert "graphs.g.nodes.n.version: 's' has version 1 only, got 2" in refused(text + graph)


def test_key_is_one_value_a_row() -> None:
    text = (
        "functions: {f: {call: 'm:f', batchable: true, inputs: {u: {datatype: INT64, shape: [-1, %d]}}, outputs: {}}}\n"
        "traffic: {s: {key: u, variants: {a: {call: f, weight: 1}}}}\n"
    )
    read(text % 1)
    assert refused(text % 2) == "s.yaml:2: traffic.s.key: 'u' has shape [-1, 2]; a key is one value a row"
