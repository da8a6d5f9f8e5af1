"""Page-locked memory, from a driver in C that counts what it gives and takes back, as there is no GPU."""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.execution.pinned import pinned_zeros

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")

FLOAT32, FLOAT16 = np.dtype(np.float32), np.dtype(np.float16)
_DRIVER = """
#include <stdlib.h>
#include <string.h>
typedef void *context;
static int here, given, freed_without_context;
static context current = &here;
int cuCtxGetCurrent(context *found) { *found = current; return 0; }
int cuCtxPushCurrent_v2(context given) { if (given != &here) return 201; current = given; return 0; }
int cuCtxPopCurrent_v2(context *was) { *was = current; current = 0; return 0; }
int cuMemHostAlloc(void **place, size_t size, unsigned flags) {
    if (!current) return 201;
    if (size > (1 << 20) || flags != 1) return 2;
    if (posix_memalign(place, 4096, size)) return 2;
    memset(*place, 7, size);
    given++;
    return 0;
}
int cuMemFreeHost(void *place) {
    if (!current) { freed_without_context++; return 201; }
    free(place);
    given--;
    return 0;
}
int pinned(void) { return given; }
int faults(void) { return freed_without_context; }
void leave(void) { current = 0; }
void enter(void) { current = &here; }
"""


@pytest.fixture
def driver(tmp_path: Path) -> Any:  # noqa: ANN401  a library
    source, library = tmp_path / "driver.c", tmp_path / "libcuda.so.1"
    source.write_text(_DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return ctypes.CDLL(str(library))


def test_memory_is_the_drivers_and_zeros_and_goes_back_when_no_view_is_left(driver: Any) -> None:  # noqa: ANN401
    array = pinned_zeros((3, 5), FLOAT32, driver._name)
    assert array is not None
    assert driver.pinned() == 1
    assert array.ctypes.data % 4096 == 0
    np.testing.assert_array_equal(array, np.zeros((3, 5), np.float32))
    array[...] = 2
    row = array[1]
    del array
    gc.collect()
    assert driver.pinned() == 1
    np.testing.assert_array_equal(row, np.full(5, 2, np.float32))
    driver.leave()  # as on a thread that never worked with the device
    del row
    gc.collect()
    assert (driver.pinned(), driver.faults()) == (0, 0)


def test_each_array_has_memory_of_its_own(driver: Any) -> None:  # noqa: ANN401
    first, second = pinned_zeros((8,), FLOAT16, driver._name), pinned_zeros((8,), FLOAT16, driver._name)
    assert first is not None
    assert second is not None
    first[...] = 1
    assert not second.any()
    assert driver.pinned() == 2


@pytest.mark.parametrize("shape", [(1 << 20, 2), (0, 4)], ids=["no room", "nothing"])
def test_where_there_is_none_nothing_is_given(driver: Any, shape: tuple[int, ...]) -> None:  # noqa: ANN401
    assert pinned_zeros(shape, FLOAT32, driver._name) is None
    assert driver.pinned() == 0


def test_without_a_context_or_a_driver_nothing_is_given(driver: Any, tmp_path: Path) -> None:  # noqa: ANN401
    driver.leave()
    assert pinned_zeros((2,), FLOAT32, driver._name) is None
    driver.enter()
    assert pinned_zeros((2,), FLOAT32, driver._name) is not None
    assert pinned_zeros((2,), FLOAT32, str(tmp_path / "none.so")) is None
    (tmp_path / "other.c").write_text("int other(void) { return 0; }\n")
    other = tmp_path / "other.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(other), str(tmp_path / "other.c")], check=True)
    assert pinned_zeros((2,), FLOAT32, str(other)) is None
