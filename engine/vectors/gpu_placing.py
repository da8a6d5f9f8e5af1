"""Which device takes a segment's vectors: our kernels where torch and Triton see a GPU, else faiss-gpu, else none.

| stored | `kind` | on the GPU |
|---|---|---|
| float32, float16 | `auto`, `flat`, `pq` | `gpu_float16`, or where it has no room `gpu_int8` |
| | `ivf_pq` | `gpu_ivf_flat` of faiss-gpu; without it as above |
| | `binary` | `gpu_rabitq` |
| float32, float16, int8 | `hnsw` | `gpu_cagra` of faiss-gpu-cuvs; without it the CPU's graph |
| int8 | any but `ivf_pq`, `hnsw` | `gpu_int8`, the codes as they are |
| binary | any | `gpu_binary`, the signs as they are |

With faiss-gpu alone what is stored as binary and kind `binary` stay on the CPU, and the rest is `gpu_flat` in float16. Candidates
are scored exactly, from what is stored, by whoever asked for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ResourceExhausted, Unavailable
from engine.vectors.declaration import Metric
from engine.vectors.dense_rows import DenseRows, readable
from engine.vectors.gpu_faiss import FaissDevice, GraphDevice, faiss_sees_gpu
from engine.vectors.gpu_index import Answer, Device, GpuIndex
from engine.vectors.index import Bits, Floats, IndexChoice, VectorIndex

if TYPE_CHECKING:
    from kernels.gpu.device import KnnDevice

Place = Callable[[], Device]
log = logging.getLogger("vireo.vectors")


class KernelDevice:
    """Our kernels' rows as a Device."""

    filters = True

    def __init__(self, rows: KnnDevice) -> None:
        """Owns `rows`, and has their kernels compiled. Raises as they do where this GPU cannot run them."""
        self._rows = rows
        rows.warm()

    @property
    def kind(self) -> str:
        """See Device: "gpu_" and what the rows are kept as."""
        return f"gpu_{self._rows.kind}"

    @property
    def bytes_size(self) -> int:
        """See Device."""
        return self._rows.bytes_size

    def search(self, queries: Floats, count: int, bits: Bits | None = None) -> Answer:
        """See Device."""
        return self._rows.search(queries, count, bits)

    def save(self, path: Path) -> None:
        """See Device."""
        raise OSError(f"index file '{path}' cannot be written: rows on the GPU are no index of the CPU's")


@cache
def kernels_see_gpu() -> bool:
    """Whether torch and Triton are installed and see a GPU that our kernels run on. Loads them if so."""
    if find_spec("torch") is None or find_spec("triton") is None:
        return False
    from kernels.gpu.device import found_gpu

    return found_gpu()


def placed(
    dense: DenseRows, choice: IndexChoice, metric: Metric, what: str, on_cpu: Callable[[], VectorIndex | None]
) -> GpuIndex | None:
    """The index of `dense` on a GPU. None where there is none, which is told once a process, or where it takes no such rows or
    has no room, as warnings tell of `what`: then the CPU's index serves. `on_cpu`: see GpuIndex."""
    places = list(_places(dense, choice, metric))
    if not places:
        _tell_of_none()
        return None
    for place in places:
        try:
            device = place()
        except (MemoryError, ResourceExhausted, Unavailable, RuntimeError, ValueError) as error:
            log.warning("%s: %s", what, getattr(error, "message", None) or error)
            continue
        log.info("%s is searched on a GPU, as %s", what, device.kind)
        return GpuIndex(device, dense.rows, what, on_cpu)
    log.warning("%s is searched on the CPU", what)
    return None


def _places(dense: DenseRows, choice: IndexChoice, metric: Metric) -> Iterator[Place]:
    """Where to try, best first."""
    faiss = faiss_sees_gpu() and dense.stored != "binary" and choice.kind != "binary"
    if choice.kind == "hnsw":
        if faiss:
            yield lambda: GraphDevice(readable(dense), choice, metric)
        return
    if faiss and choice.kind == "ivf_pq":
        yield lambda: FaissDevice(readable(dense), choice, metric)
    if kernels_see_gpu():
        yield from _kernel_places(dense, choice, metric)
    if faiss and choice.kind != "ivf_pq":
        yield lambda: FaissDevice(readable(dense), choice, metric)


def _kernel_places(dense: DenseRows, choice: IndexChoice, metric: Metric) -> Iterator[Place]:
    from kernels.gpu.device import KnnDevice

    measure: Metric = "l2" if metric == "l2" else "dot"  # of cosine rows and queries have length 1 already
    if dense.stored in ("int8", "binary"):
        yield lambda: KernelDevice(KnnDevice.of_codes(dense.data, measure, dense.size, weights=dense.scale))
    elif choice.kind == "binary":
        yield lambda: KernelDevice(KnnDevice.of(readable(dense), "rabitq", measure))
    else:
        yield lambda: KernelDevice(KnnDevice.of(readable(dense), "float16", measure))
        yield lambda: KernelDevice(KnnDevice.of(readable(dense), "int8", measure))


@cache
def _tell_of_none() -> None:
    log.warning(
        "vectors ask for a GPU (index.gpu), and neither torch with Triton nor faiss sees one here that takes them: they are "
        "searched on the CPU"
    )
