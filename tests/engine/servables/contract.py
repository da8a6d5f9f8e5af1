"""What every servable promises. A kind of servable passes by subclassing and giving `servable` and `inputs`."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine import BYTES, Array, Tensor
from engine.servables.servable import Servable

ROWS = 5


class ServableContract:
    """Subclasses give the fixture `servable` and the method `inputs`."""

    @pytest.fixture
    def servable(self) -> Servable:
        """The servable under test, loaded."""
        raise NotImplementedError

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Inputs it must answer, of `rows` rows where it is batchable."""
        raise NotImplementedError

    def test_it_is_a_servable_and_says_what_it_is(self, servable: Servable) -> None:
        assert isinstance(servable, Servable)
        assert servable.traits.platform
        assert servable.traits.batching
        assert servable.signature is servable.signature
        names = [each.name for each in servable.signature.inputs]
        assert len(set(names)) == len(names)

    def test_inputs_of_the_suite_pass_its_own_check(self, servable: Servable) -> None:
        rows = servable.signature.check("m", self.inputs(ROWS, 0), ())
        assert rows == (ROWS if servable.signature.batchable else 1)

    def test_all_outputs_come_where_none_is_named_and_fit_the_signature(self, servable: Servable) -> None:
        outputs = servable.execute(self.inputs(ROWS, 0), ())
        assert list(outputs) == list(servable.signature.output_names)
        for spec in servable.signature.outputs:
            tensor = outputs[spec.name]
            assert tensor.datatype is spec.datatype
            assert tensor.array.dtype == spec.datatype.dtype
            assert spec.takes(tensor.shape)
            assert tensor.array.flags.c_contiguous

    def test_only_named_outputs_come_and_are_the_same(self, servable: Servable) -> None:
        every = servable.execute(self.inputs(ROWS, 1), ())
        for name in servable.signature.output_names:
            one = servable.execute(self.inputs(ROWS, 1), (name,))
            assert list(one) == [name]
            assert _same(one[name].array, every[name].array)

    def test_rows_together_equal_rows_one_by_one(self, servable: Servable) -> None:
        if not servable.signature.batchable:
            pytest.skip("not batchable")
        inputs = self.inputs(ROWS, 2)
        together = servable.execute(inputs, ())
        for row in range(ROWS):
            alone = servable.execute(_row(inputs, row), ())
            for name, tensor in alone.items():
                assert tensor.array.shape[0] == 1
                assert _same(tensor.array, together[name].array[row : row + 1])

    def test_inputs_may_be_read_only_and_are_left_as_they_were(self, servable: Servable) -> None:
        inputs = self.inputs(ROWS, 3)
        before = {name: each.array.copy() for name, each in inputs.items()}
        for each in inputs.values():
            each.array.flags.writeable = False
        servable.execute(inputs, ())
        assert all(_same(each.array, before[name]) for name, each in inputs.items())

    def test_threads_at_once_get_their_own_answers(self, servable: Servable) -> None:
        expected = [servable.execute(self.inputs(ROWS, seed), ()) for seed in range(4)]
        wrong: list[int] = []

        def call(seed: int) -> None:
            for _ in range(25):
                got = servable.execute(self.inputs(ROWS, seed), ())
                if not all(_same(each.array, expected[seed][name].array) for name, each in got.items()):
                    wrong.append(seed)

        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert wrong == []

    def test_answers_outlive_the_servable(self, servable: Servable) -> None:
        outputs = servable.execute(self.inputs(ROWS, 0), ())
        before = {name: each.array.copy() for name, each in outputs.items()}
        servable.close()
        assert all(_same(each.array, before[name]) for name, each in outputs.items())


def _row(inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: Tensor(each.datatype, each.array[row : row + 1]) for name, each in inputs.items()}


def _same(left: Array, right: Array) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return left.tolist() == right.tolist() if left.dtype == BYTES.dtype else left.tobytes() == right.tobytes()


def floats(rows: int, width: int, seed: int) -> Array:
    """Seeded rows of standard normal floats."""
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
