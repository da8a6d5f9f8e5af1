"""Text into checked nodes: Python's grammar, of which a short list is allowed. Nothing of the text is ever run. Pure."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

from engine.errors import SpecError, nearest, quoted
from engine.features.expression_tree import (
    BOOL,
    BYTES,
    FUNCTIONS,
    NUMBER,
    OPERATORS,
    TEXT,
    TIMESTAMP,
    ExpressionType,
    Node,
    Signature,
)

CHARACTERS_MAX: Final = 4_000
DEPTH_MAX: Final = 100
NODES_MAX: Final = 2_000
"""Of one expression with the derived columns it uses written out."""

CONSTANTS: Final = ("timestamp",)
"""Called with a literal, they make a literal."""

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
WORDS: Final = frozenset(
    {*FUNCTIONS, *CONSTANTS, "and", "or", "not", "in", "is", "if", "else", "True", "False", "None"}
)
"""Names that mean something in the language, so that nothing else can have them."""

_BINARY: Final = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARE: Final = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_NULL: Final = "null"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_tree(text: str, find: Callable[[str], Node | None], known: Callable[[], Iterable[str]]) -> Node:
    """The checked nodes of `text`, with `find`'s node for each name. Raises SpecError with the place and the nearest `known`."""
    if len(text) > CHARACTERS_MAX:
        raise SpecError(f"an expression has at most {CHARACTERS_MAX} characters, got {len(text)}: {quoted(text)}")
    line = text.strip()
    if "\n" in line:
        if "#" in line:
            raise SpecError(f"an expression of several lines has no comments ('#'): {quoted(text)}")
        line = line.replace("\r", " ").replace("\n", " ")
    if not line:
        raise SpecError("an expression is empty")
    try:
        tree = ast.parse(line, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise SpecError(_not_parsed(line, error)) from None
    node = _Reader(line, find, known).read(tree.body, 1)
    if node.value is None and node.operation == "literal":
        raise SpecError(f"an expression that is always null: {quoted(line)}")
    return node


def _not_parsed(line: str, error: Exception) -> str:
    where = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
    why = error.msg if isinstance(error, SyntaxError) else "nested too deep, or with characters that text cannot have"
    return f"not an expression: {why}{where} of {quoted(line)}"


@dataclass(slots=True)
class _Reader:
    """Walks one syntax tree. `count` bounds what derived columns expand to."""

    line: str
    find: Callable[[str], Node | None]
    known: Callable[[], Iterable[str]]
    count: int = 0

    def read(self, node: ast.expr, depth: int) -> Node:
        if depth > DEPTH_MAX:
            self.fail(node, f"nested deeper than {DEPTH_MAX}")
        made = self._made(node, depth)
        is_derived = isinstance(node, ast.Name) and bool(made.args)
        self.count += sum(1 for _ in made.walk()) if is_derived else 1
        if self.count > NODES_MAX:
            self.fail(node, f"more than {NODES_MAX} operations, derived columns written out")
        if is_derived and depth + made.depth > DEPTH_MAX:
            self.fail(node, f"nested deeper than {DEPTH_MAX}, derived columns written out")
        return made

    def fail(self, node: ast.AST, problem: str) -> NoReturn:
        start, end = (self._character(getattr(node, each, 0)) for each in ("col_offset", "end_col_offset"))
        segment = self.line[start:end]
        at = f" at character {start + 1} of {quoted(self.line)}" if segment != self.line else ""
        raise SpecError(f"{problem}: {quoted(segment)}{at}")

    def _character(self, offset: int) -> int:
        """ast counts bytes of UTF-8."""
        return len(self.line.encode()[:offset].decode(errors="replace"))

    def _made(self, node: ast.expr, depth: int) -> Node:
        read = _READERS.get(type(node))
        if read is None:
            self.fail(node, f"{_described(node)} is not part of the language")
        return read(self, node, depth + 1)

    def name(self, node: ast.Name, _: int) -> Node:
        found = self.find(node.id)
        if found is not None:
            return found
        if node.id in WORDS:
            self.fail(node, f"{quoted(node.id)} is a function: call it with its arguments in parentheses")
        return self.fail(node, f"unknown name {quoted(node.id)}{nearest(node.id, self.known())}")

    def constant(self, node: ast.Constant, _: int) -> Node:
        value = node.value
        if isinstance(value, bool):
            return Node("literal", BOOL, value=value)
        if isinstance(value, int | float):
            return self._number(node, value)
        if isinstance(value, str):
            if not _is_text(value):
                self.fail(node, "a text with characters that cannot be encoded")
            return Node("literal", TEXT, value=value)
        if value is None:
            return Node("literal", NUMBER, value=None, whole=True)
        return self.fail(node, f"{_described(node)} is not part of the language")

    def _number(self, node: ast.AST, value: float) -> Node:
        try:
            finite = math.isfinite(float(value))
        except OverflowError:
            finite = False
        if not finite:
            self.fail(node, "a number that no float64 holds")
        return Node("literal", NUMBER, value=value, whole=float(value).is_integer())

    def unary(self, node: ast.UnaryOp, depth: int) -> Node:
        operand = self.read(node.operand, depth)
        if isinstance(node.op, ast.Not):
            return self._applied(node, "not", OPERATORS["not"], (operand,))
        if isinstance(node.op, ast.Invert):
            self.fail(node, "'~' is not part of the language; write 'not'")
        checked = self._applied(node, "negative", OPERATORS["negative"], (operand,))
        if isinstance(node.op, ast.UAdd):
            return operand
        if operand.operation == "literal" and isinstance(operand.value, int | float):
            return Node("literal", NUMBER, value=-operand.value, whole=operand.whole)
        return checked

    def binary(self, node: ast.BinOp, depth: int) -> Node:
        operator = _BINARY.get(type(node.op))
        if operator is None:
            self.fail(node, "bit operations are not part of the language")
        args = (self.read(node.left, depth), self.read(node.right, depth))
        if operator == "-" and {each.type for each in args} == {TIMESTAMP}:
            self.fail(node, "timestamps are subtracted by seconds_between(from, to)")
        return self._applied(node, operator, OPERATORS[operator], args)

    def boolean(self, node: ast.BoolOp, depth: int) -> Node:
        operator = "and" if isinstance(node.op, ast.And) else "or"
        args = tuple(self.read(each, depth) for each in node.values)
        return self._applied(node, operator, OPERATORS[operator], args)

    def compare(self, node: ast.Compare, depth: int) -> Node:
        left, made = self.read(node.left, depth), None
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn | ast.Is | ast.IsNot):
                if len(node.ops) > 1:
                    self.fail(node, "'in' and 'is' are not chained")
                test = self._in if isinstance(operator, ast.In | ast.NotIn) else self._is
                return test(node, operator, left, right)
            second = self.read(right, depth)
            word = _COMPARE[type(operator)]
            pair = self._applied(node, word, OPERATORS[word], (left, second))
            made = pair if made is None else self._applied(node, "and", OPERATORS["and"], (made, pair))
            left = second
        assert made is not None
        return made

    def _in(self, node: ast.Compare, operator: ast.cmpop, left: Node, right: ast.expr) -> Node:
        if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
            self.fail(right, "'in' takes a list of literals such as ['a', 'b'], got")
        values = [self.read(each, DEPTH_MAX - 1) for each in right.elts]
        for value, element in zip(values, right.elts, strict=True):
            if value.operation != "literal" or value.value is None:
                self.fail(element, "'in' takes a list of literals, got")
            if value.type is not left.type or left.type is BOOL:
                self.fail(element, f"'in' compares a {left.type} with a {value.type}")
        made = Node("in", BOOL, (left,), values=tuple(each.value for each in values))
        return Node("not", BOOL, (made,)) if isinstance(operator, ast.NotIn) else made

    def _is(self, node: ast.Compare, operator: ast.cmpop, left: Node, right: ast.expr) -> Node:
        if not (isinstance(right, ast.Constant) and right.value is None):
            self.fail(node, "'is' is only for 'is None' and 'is not None'")
        made = Node("is_null", BOOL, (left,))
        return Node("not", BOOL, (made,)) if isinstance(operator, ast.IsNot) else made

    def conditional(self, node: ast.IfExp, depth: int) -> Node:
        test, *branches = (self.read(each, depth) for each in (node.test, node.body, node.orelse))
        if test.type is not BOOL:
            self.fail(node.test, f"after 'if' stands a bool, got a {test.type}")
        typed = [each for each in branches if not _is_null(each)]
        if not typed:
            self.fail(node, "both sides of 'else' are None")
        kind = typed[0].type
        if any(each.type is not kind for each in typed) or kind is BYTES:
            self.fail(node, f"both sides of 'else' are of one type, got {branches[0].type} and {branches[1].type}")
        sides = tuple(Node("literal", kind, value=None, whole=True) if _is_null(each) else each for each in branches)
        return Node("if", kind, (test, *sides), whole=all(each.whole for each in sides))

    def call(self, node: ast.Call, depth: int) -> Node:
        if not isinstance(node.func, ast.Name):
            self.fail(node.func, "only functions of the language are called, not")
        name = node.func.id
        if name in CONSTANTS and not node.keywords:
            return self._timestamp(node)
        if name not in FUNCTIONS:
            self.fail(node.func, f"unknown function {quoted(name)}{nearest(name, (*FUNCTIONS, *CONSTANTS))}")
        if node.keywords:
            self.fail(node, f"{name} takes its arguments by place, without names")
        args = tuple(self.read(each, depth) for each in node.args)
        return self._applied(node, name, FUNCTIONS[name], args)

    def _timestamp(self, node: ast.Call) -> Node:
        text = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
        try:
            when = datetime.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            when = None
        if when is None:
            self.fail(node, "timestamp takes one literal such as '2026-01-31T12:00:00Z', got")
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return Node("literal", TIMESTAMP, value=(when - _EPOCH) // timedelta(microseconds=1))

    def _applied(self, node: ast.expr, operation: str, signature: Signature, args: tuple[Node, ...]) -> Node:
        """`operation` on `args` where its signature allows it."""
        wanted = len(signature.accepts)
        if len(args) < wanted or (len(args) > wanted and not signature.more):
            self.fail(node, f"{operation} takes {signature.takes}, got {len(args)}")
        for index, each in enumerate(args):
            accepts = signature.accepts[min(index, wanted - 1)]
            if _is_null(each):
                self.fail(node, "None stands only after 'is', 'is not' and beside 'else'; use is_null(...)")
            if each.type not in accepts:
                expected = " or ".join(sorted(accepts))
                self.fail(node, f"{quoted(operation)} takes {expected}, got {each.type}{_HINTS.get(each.type, '')}")
            if signature.literal is not None and index >= signature.literal and each.operation != "literal":
                self.fail(node, f"argument {index + 1} of {operation} must be a literal")
        if signature.agree and any(each.type is not args[0].type for each in args):
            self.fail(
                node, f"{quoted(operation)} takes values of one type, got {', '.join(each.type for each in args)}"
            )
        whole = all(each.whole for each in args) if signature.whole is None else signature.whole
        return Node(operation, signature.returns or args[0].type, args, whole=whole)


_HINTS: Final = {BOOL: " (number(...) makes 0 and 1 of it)", TIMESTAMP: " (seconds(...) makes a number of it)"}

_READERS: Final[dict[type[ast.AST], Callable[..., Node]]] = {
    ast.Name: _Reader.name,
    ast.Constant: _Reader.constant,
    ast.UnaryOp: _Reader.unary,
    ast.BinOp: _Reader.binary,
    ast.BoolOp: _Reader.boolean,
    ast.Compare: _Reader.compare,
    ast.IfExp: _Reader.conditional,
    ast.Call: _Reader.call,
}


def leaf(name: str, kind: ExpressionType, *, whole: bool = False) -> Node:
    """The node of a column."""
    return Node("name", kind, value=name, whole=whole)


def _is_null(node: Node) -> bool:
    return node.operation == "literal" and node.value is None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(node: ast.AST) -> str:
    """What a reader calls a piece of Python."""
    if isinstance(node, ast.Constant):
        return f"a literal of type {type(node.value).__name__}"
    known = {
        ast.Attribute: "a name with a dot",
        ast.Subscript: "an index",
        ast.List: "a list outside 'in'",
        ast.Tuple: "a tuple outside 'in'",
        ast.JoinedStr: "a formatted text",
    }
    return known.get(type(node), f"{type(node).__name__.lower()}")
