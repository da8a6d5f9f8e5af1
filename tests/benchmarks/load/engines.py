"""Both engines, for tests of what they must do alike."""

import pytest

from benchmarks.load.native import engine as native_engine
from benchmarks.load.native.build import BuildError
from benchmarks.load.order import Engine


@pytest.fixture(params=list(Engine))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn; the native one is skipped where it cannot be built."""
    asked = Engine(request.param)
    if asked is Engine.NATIVE:
        try:
            native_engine.loaded()
        except BuildError as error:
            pytest.skip(f"the native engine cannot be built here: {error}")
    return asked
