"""Requests for the whole decision: no transaction twice, each later than the last."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.graphs.running import infer_message
from benchmarks.graphs.whole import CHECKED, SPAN_US, Stream
from benchmarks.load.frames import join_frames, message_of, read_frames
from benchmarks.workloads.fraud.application import GRAPH, Application

FIRST, COUNT, DAY_US = 190_000, CHECKED + 50, 86_400 * 1_000_000


def asked_of(file: Path) -> list[tuple[int, int, float]]:
    """Number, instant and amount of each."""
    found = []
    for frame in read_frames(file):
        request = service_pb2.ModelInferRequest.FromString(message_of(frame))
        raw = {each.name: content for each, content in zip(request.inputs, request.raw_input_contents, strict=True)}
        number, instant = (int(np.frombuffer(raw[name], "<i8")[0]) for name in ("transaction", "at"))
        found.append((number, instant, float(np.frombuffer(raw["amount"], "<f8")[0])))
    return found


def test_every_run_gets_transactions_that_nobody_has_seen_and_that_are_later(tmp_path: Path) -> None:
    application = Application(tmp_path)
    application.folder.mkdir()
    messages = [
        infer_message(
            GRAPH,
            {
                "transaction": np.array([FIRST + index]),
                "at": np.array([1_740_000_000_000_000 + index * DAY_US // 100]),
                "amount": np.array([index / 4]),
            },
        )
        for index in range(COUNT)
    ]
    application.frames.write_bytes(join_frames(messages))
    given = asked_of(application.frames)
    stream = Stream(application, tmp_path)
    runs = [asked_of(stream.fresh(count)) for count in (10, 51, 100)]
    asked = [each for run in runs for each in run]
    assert [len(run) for run in runs] == [50, 100, 100]
    assert len({number for number, _, _ in [*given, *asked]}) == len(given) + len(asked)
    assert all(later[1] > earlier[1] for earlier, later in pairwise(asked))
    assert (asked[0][1] - given[CHECKED][1]) % SPAN_US == 0
    assert [amount for _, _, amount in asked[:50]] == [amount for _, _, amount in given[CHECKED:]]
