"""The stack beside ours: what its gateway is told, and the answers of one that is installed."""

from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.graphs.stack_case import ENTITIES, RAW_COLUMNS, StackCase, stack_case
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.stack import Lookup, WrongAnswerError, check_answers, check_stack_installed, order_of, start_stack
from tests.benchmarks.graphs.small import small_inputs


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> StackCase:
    return stack_case(small_inputs(tmp_path_factory.mktemp("fraud")), seed=7)


def test_every_column_of_the_model_comes_from_the_request_or_from_one_entity(case: StackCase) -> None:
    widths = [len(entity.features) for entity in case.entities]
    assert [entity.name for entity in case.entities] == list(ENTITIES)
    assert RAW_COLUMNS + sum(widths) == case.rows.shape[1]


def test_a_request_names_what_its_row_is_made_of(case: StackCase) -> None:
    for index in range(10):
        asked = service_pb2.ModelInferRequest.FromString(case.messages[index])
        given = {each.name: raw for each, raw in zip(asked.inputs, asked.raw_input_contents, strict=True)}
        parts = [np.frombuffer(given[name], "<f4") for name in case.raw]
        parts += [each.values[np.frombuffer(given[each.name], "<i8")[0]] for each in case.entities]
        assert np.array_equal(np.concatenate(parts), case.rows[index])


def test_the_order_lists_features_as_the_model_wants_them(case: StackCase, tmp_path: Path) -> None:
    order = order_of(case, Lookup.FEAST, tmp_path, redis_port=1, triton_port=2)
    names = [feature for entity in order["entities"] for feature in entity["features"]]
    assert len(names) == len(set(names)) == case.rows.shape[1] - RAW_COLUMNS
    with np.load(order["values"]) as values:
        assert {name: values[name].shape[0] for name in values} == {
            each.name: len(each.values) for each in case.entities
        }


@pytest.mark.parametrize("lookup", Lookup)
def test_the_stack_says_what_the_model_says(lookup: Lookup, case: StackCase, tmp_path: Path) -> None:
    try:
        check_stack_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))
    with start_stack(case, lookup, tmp_path, core=None) as stack:  # checks its answers itself
        moved = StackCase(
            **{name: getattr(case, name) for name in StackCase.__slots__ if name != "rows"}, rows=case.rows + 1
        )
        with pytest.raises(WrongAnswerError):
            check_answers(moved, stack.port)
        assert set(stack.cpu_by_part()) == {"gateway", "Triton", "Redis"}
