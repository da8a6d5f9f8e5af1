"""YAML into dataclasses: every mistake has its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import SpecError
from engine.strict_yaml import read_plain, read_strict

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Wheel:
    """A part with a required key."""

    inches: int
    brand: str = "none"


@dataclass(frozen=True)
class Car:
    """Every kind of field the reader knows."""

    name: str = "car"
    doors: int = 4
    weight_kg: float = 900.0
    sold: bool = False
    colour: Literal["red", "blue"] = "red"
    owner: str | None = None
    tags: tuple[str, ...] = ()
    wheels: Mapping[str, Wheel] = field(default_factory=dict)
    spare: Wheel | Literal["none"] | None = None
    extras: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    wires: Mapping[str, str | tuple[str, ...] | Wheel] | None = None
    folder: Path = field(default_factory=Path)


def _read(text: str) -> Car:
    return read_strict(text, Car, "car.yaml")[0]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "null", "---\n", "{}"])
def test_an_empty_text_is_all_defaults(text: str) -> None:
    assert _read(text) == Car()


def test_every_kind_of_value_is_read() -> None:
    car = _read(
        "name: beetle\ndoors: 2\nweight_kg: 800\nsold: true\ncolour: blue\nowner: ~\ntags: [old, 'no']\n"
        "wheels: {left: {inches: 15}, right: {inches: 16, brand: x}}\nspare: {inches: 14}\n"
    )
    assert car == Car(
        "beetle", 2, 800.0, True, "blue", None, ("old", "no"), {"left": Wheel(15), "right": Wheel(16, "x")}, Wheel(14)
    )
    assert type(car.weight_kg) is float


def test_a_choice_takes_the_word_the_keys_or_nothing() -> None:
    assert _read("spare: none").spare == "none"
    assert _read("spare: ~").spare is None
    assert _read("spare: {inches: 3}").spare == Wheel(3)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("3", 3),
        ("-7", -7),
        ("0.5", 0.5),
        ("3.0", 3.0),
        (".inf", float("inf")),
        ("'3'", "3"),
        ('"true"', "true"),
        ("red", "red"),
        ("''", ""),
        ("[]", ()),
        ("[true, 3, 0.5, 'x', \"4\"]", (True, 3, 0.5, "x", "4")),
    ],
)
def test_a_scalar_of_any_kind_is_what_it_is_written_as(written: str, value: object) -> None:
    read = _read(f"extras: {{x: {written}}}").extras["x"]
    assert (type(read), read) == (type(value), value)
    if isinstance(read, tuple) and isinstance(value, tuple):
        assert [type(each) for each in read] == [type(each) for each in value]


def test_a_choice_of_a_word_a_list_and_keys_is_made_by_how_it_is_written() -> None:
    wires = _read("wires: {a: x, b: [x, 1.10], c: {inches: 3}, d: 007}").wires
    assert wires == {"a": "x", "b": ("x", "1.10"), "c": Wheel(3), "d": "007"}
    assert _read("wires: ~").wires is None


def test_aliases_of_aliases_are_bounded() -> None:
    wide = f"&w [{', '.join(['x'] * 2_000)}]"
    text = f"wires:\n  first: {wide}\n" + "".join(f"  k{n}: *w\n" for n in range(200))
    with pytest.raises(SpecError, match=r"car.yaml:2: wires.k\d+\[\d+\]: more than 250000 values"):
        _read(text)


def test_text_that_looks_like_a_number_stays_as_written() -> None:
    assert _read("name: 1.10").name == "1.10"
    assert _read("name: 007").name == "007"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: x", "car.yaml:1: spec: unknown key 'nmae'; nearest: 'name'"),
        ("doors: 2\ncolor: red", "car.yaml:2: spec: unknown key 'color'; nearest: 'colour'"),
        ("wheels:\n  left:\n    inchs: 3", "car.yaml:3: wheels.left: unknown key 'inchs'; nearest: 'inches'"),
        ("folder: /etc", "car.yaml:1: spec: unknown key 'folder'"),
        ("doors: 2\ndoors: 3", "car.yaml:2: spec: key 'doors' is written twice"),
        ("wheels: {a: {inches: 1}, a: {inches: 2}}", "wheels: key 'a' is written twice"),
        ("wheels: {a: {}}", "car.yaml:1: wheels.a: missing key 'inches'"),
        ("doors: two", "car.yaml:1: doors: expected a whole number, got 'two'"),
        ("doors: 2.0", "expected a whole number, got '2.0'"),
        ("doors: true", "expected a whole number, got 'true'"),
        ("doors: '2'", "expected a whole number, got '2'"),
        ("doors: ~", "expected a whole number, got '~'"),
        ("sold: 1", "expected true or false, got '1'"),
        ("name: yes", "expected text, got 'yes'"),
        ("name: [a]", "expected text, got a sequence"),
        ("weight_kg: heavy", "expected a number, got 'heavy'"),
        ("colour: green", "expected one of 'red', 'blue', got 'green'"),
        ("colour: [red]", "expected one of 'red', 'blue', got a sequence"),
        ("tags: old", "expected a list, got a scalar"),
        ("tags:\n  - a\n  - 3: 4", "car.yaml:3: tags\\[1\\]: expected text, got a mapping"),
        ("wheels: [1]", "expected keys with values, got a sequence"),
        ("spare: [1]", "expected keys with values or one of 'none', got a sequence"),
        ("extras: {x: ~}", "extras.x: expected true or false, a whole number, a number, text or a list, got '~'"),
        ("extras: {x: {a: 1}}", "extras.x: expected true or false, .* or a list, got a mapping"),
        ("extras: {x: 2026-01-01}", "extras.x: expected true or false, .*, got '2026-01-01'"),
        ("extras:\n  x:\n    - 1\n    - [2]", r"car.yaml:4: extras.x\[1\]: expected true or false, .*, got a sequence"),
        ("extras: {x: [~]}", r"extras.x\[0\]: expected true or false, a whole number, a number or text, got '~'"),
        ("wires: {a: yes}", "wires.a: expected text, got 'yes'"),
        ("wires: {a: [[b]]}", r"wires.a\[0\]: expected text, got a sequence"),
        ("wires: {a: {inchs: 1}}", "wires.a: unknown key 'inchs'; nearest: 'inches'"),
        ("wires: {a: ~}", "wires.a: expected text, got '~'"),
        ("wires: [a]", "wires: expected keys with values, got a sequence"),
        ("- a", "car.yaml:1: spec: expected keys with values, got a sequence"),
        ("[a]: 3", "a key must be a plain word, got a sequence"),
        ("a: [", "car.yaml: not valid YAML"),
        ("a: 1\n---\nb: 2", "car.yaml: not valid YAML"),
        ("name: \x07", "car.yaml: not valid YAML"),
        ("name: !!python/object/apply:os.system ['true']", "expected text, got a sequence"),
        ("name: !!python/name:os.system x", "car.yaml:1: name: could not determine a constructor"),
        ("tags: &a [*a]", "expected text, got a sequence"),
        ("<<: {doors: 3}", "unknown key '<<'"),
        ("[" * 3000, "nested too deep|not valid YAML"),
        (f"weight_kg: 1{'0' * 400}", "car.yaml:1: weight_kg: int too large to convert to float"),
    ],
)
def test_every_mistake_names_the_place(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _read(text)


@given(st.text(max_size=60) | st.from_regex(r"([a-z_]{1,9}: ?[\w\[\]{}&*!'\"~.:-]{0,9}\n){1,4}", fullmatch=True))
def test_any_text_is_read_or_refused_with_a_spec_error(text: str) -> None:
    message = ""
    try:
        _read(text)
    except SpecError as error:
        message = error.message
    assert message == "" or message.startswith("car.yaml")


def test_a_place_is_the_line_of_the_key_or_of_the_nearest_one_above() -> None:
    _, place = read_strict("name: a\nwheels:\n  left:\n    inches: 3\n", Car, "car.yaml")
    assert place("wheels.left.inches") == "car.yaml:4: wheels.left.inches"
    assert place("wheels.left.brand") == "car.yaml:3: wheels.left.brand"
    assert place("wheels.right.inches") == "car.yaml:2: wheels.right.inches"
    assert place("spare") == "car.yaml: spare"


def test_json_is_read_as_the_file_is_but_takes_no_number_for_text() -> None:
    car = read_plain(
        {
            "name": "12", "doors": 2, "weight_kg": 800, "sold": True, "colour": "blue", "owner": None, "tags": ["old", "1"],
            "wheels": {"left": {"inches": 15}}, "spare": {"inches": 14}, "extras": {"a": 1, "b": 0.5, "c": [True, "no"]},
        },
        Car,
        "body",
    )  # fmt: skip
    assert car == Car(
        "12", 2, 800.0, True, "blue", None, ("old", "1"), {"left": Wheel(15)}, Wheel(14),
        {"a": 1, "b": 0.5, "c": (True, "no")},
    )  # fmt: skip
    assert read_plain({}, Car, "body") == Car()
    for said, message in (
        ({"name": 12}, "body.name: expected text, got '12'"),
        ({"doors": "2"}, "body.doors: expected a whole number, got '2'"),
        ({"sold": "true"}, "body.sold: expected true or false, got 'true'"),
        ({"door": 2}, "body: unknown key 'door'; nearest: 'doors'"),
        ({"wheels": {"left": {"inch": 2}}}, "body.wheels.left: unknown key 'inch'; nearest: 'inches'"),
        ({"wheels": {"left": {}}}, "body.wheels.left: missing key 'inches'"),
        ({"tags": "old"}, "body.tags: expected a list, got a scalar"),
        ({"spare": 7}, "body.spare: expected one of 'none', got '7'"),
        ([], "body: expected keys with values, got a sequence"),
        ({"name": {3}}, "body: expected what JSON can say, got a set"),
    ):
        with pytest.raises(SpecError) as caught:
            read_plain(said, Car, "body")
        assert caught.value.message == message
