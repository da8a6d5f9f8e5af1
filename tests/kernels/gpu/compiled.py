"""Compiles every kernel that a search can launch, for GPUs that need not be there, and prints what each takes of one: a line of
JSON a kernel. `python -m tests.kernels.gpu.compiled CAPABILITY [KIND ...]`

The searches are the product's own, over rows on the CPU; where a kernel would be launched it is compiled with what it was given.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.gpu import finish, knn, order, rows
from kernels.gpu import scan as kernels

SIZE, ROWS = 384, 100_000
SHARED_BYTES = {89: 99 << 10, 90: 227 << 10, 100: 227 << 10}
"""What a block may have, of Ada (as of Ampere's smaller chips, the least of all that are served), Hopper and Blackwell."""
KERNELS = ((kernels, ("scan", "settle", "set_course", "rows_of_bits")), (order, ("rescored", "in_order")))
TYPES = {
    torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int8: "*i8", torch.uint8: "*u8", torch.int32: "*i32",
    torch.int64: "*i64", torch.float32: "*fp32",
}  # fmt: skip


class Compiling:
    """In a kernel's place: takes launches, and compiles each that differs."""

    def __init__(self, kernel: Any, capability: int) -> None:  # noqa: ANN401
        self.kernel, self.target = kernel, GPUTarget("cuda", capability, 32)
        self.known: dict[str, dict[str, Any]] = {}

    def __getitem__(self, _: object) -> Callable[..., None]:
        return self.take

    def take(self, *given: Any, num_warps: int = 4, num_stages: int = 3, **constants: Any) -> None:  # noqa: ANN401
        """A launch."""
        names = self.kernel.arg_names
        types = {name: _type_of(each) for name, each in zip(names, given, strict=False)}
        options = {"num_warps": num_warps, "num_stages": num_stages}
        key = json.dumps([types, constants, options])
        if key not in self.known:
            signature = {name: types.get(name, "constexpr") for name in names}
            aligned = {(at,): [["tt.divisibility", 16]] for at, name in enumerate(types) if types[name][0] == "*"}
            source = ASTSource(self.kernel, signature, constexprs=constants, attrs=aligned)
            compiled = triton.compile(source, target=self.target, options=options)
            self.known[key] = {"kernel": self.kernel.__name__, **constants, **options, **_taken(compiled)}


def _type_of(given: Any) -> str:  # noqa: ANN401
    return TYPES[given.dtype] if isinstance(given, torch.Tensor) else "i32"


def _taken(compiled: Any) -> dict[str, Any]:  # noqa: ANN401
    """Of one thread registers and bytes of stack, where what finds no register lies; of a block bytes of shared memory; and
    whether a warp group multiplies."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", told)[-1]
    shared, groups = compiled.metadata.shared, "wgmma.mma_async" in compiled.asm["ptx"]
    return {"registers": int(registers), "stack_bytes": int(stack), "shared_bytes": shared, "warp_groups": groups}


def searches(kind: Any) -> Iterator[None]:  # noqa: ANN401
    """One of each number of queries that has kernels of its own: of all rows, of those that are listed, of those in a bitset."""
    held = rows.rows_of(torch.zeros((ROWS, SIZE)).numpy(), kind, "l2", device="cpu")
    listed, bits = torch.arange(ROWS // 2, dtype=torch.int32), torch.zeros(ROWS // 8, dtype=torch.uint8)
    for many in (1, 17, 64):
        for chosen, kept in ((None, None), (listed, None), (None, bits)):
            search = knn.Search(torch.zeros((many, SIZE)), 16)
            search.feed(held, chosen=chosen, bits=kept)
            exact = None if held.signs else held
            finish.ranked(search, exact, torch.empty((many, 16)), torch.empty((many, 16), dtype=torch.int64))
            yield


def main(capability: int, kinds: list[str]) -> None:
    """All."""
    shared = SHARED_BYTES[capability]
    setattr(knn, "_shared_bytes", lambda _: shared)  # noqa: B010 - a function in a cached one's place
    compiling = []
    for module, names in KERNELS:
        for name in names:
            compiling.append(Compiling(getattr(module, name), capability))
            setattr(module, name, compiling[-1])
    for kind in kinds:
        for _ in searches(kind):
            pass
    for wanted in (512, 2_048):
        knn.Search(torch.zeros((1, SIZE)), wanted).feed(
            rows.rows_of(torch.zeros((9, SIZE)).numpy(), "float16", "dot", device="cpu")
        )
    knn.chosen_rows(torch.zeros(9, dtype=torch.uint8), 72)
    for each in compiling:
        for found in each.known.values():
            print(json.dumps({**found, "shared_bytes_max": shared}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
