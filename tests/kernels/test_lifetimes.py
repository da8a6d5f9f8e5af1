"""An array whose address a kernel works at is used once more when all the work is done.

Numba lets go of an array after its last use; an address taken from it is no use. A kernel that went on working there wrote into
memory that other threads had been given meanwhile.
"""

import ast
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
MADE = {"empty", "zeros", "ones", "full"}


def _made_here(function: ast.FunctionDef) -> set[str]:
    """Names of the arrays that the function makes and takes the address of."""
    made = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in MADE
        for target in node.targets
        if isinstance(target, ast.Name)
    }  # fmt: skip
    addressed = {
        node.value.id
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "ctypes" and isinstance(node.value, ast.Name)
    }
    return made & addressed


def let_go_early(source: str) -> list[str]:
    """Which functions' arrays are last used before the last of their loops ends."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        ends = [node.end_lineno or 0 for node in ast.walk(function) if isinstance(node, ast.For | ast.While)]
        returns = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Return)]
        for name in sorted(_made_here(function)):
            uses = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
            if max(uses) <= max(ends, default=0) or sum(each < max(uses) for each in returns):
                found.append(f"{function.name}: {name}")
    return found


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.name)
def test_no_kernel_works_in_an_array_that_numba_has_let_go_of(path: Path) -> None:
    assert let_go_early(path.read_text()) == []


def test_the_check_knows_good_from_bad() -> None:
    bad = (
        "def f(n):\n    room = np.empty(n)\n    at = room.ctypes.data\n    for i in range(n):\n        store(at + i)\n"
    )
    early = "        if i:\n            return 0\n"
    assert let_go_early(bad + "    return n\n") == ["f: room"]
    assert let_go_early(bad + early + "    room[0] = 0\n    return n\n") == ["f: room"]
    assert let_go_early(bad + "    room[0] = 0\n    return n\n") == []
