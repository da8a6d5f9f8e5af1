"""A feature view as a model, by an unmodified tritonclient."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tritonclient.grpc import InferenceServerClient

from tests.fakes import PATIENCE_S
from tests.serving.calls import given, refused
from tests.serving.features.events import CARD_FEATURES, payments
from tests.serving.servers import ServerHere


def test_a_view_is_inferred_like_a_model(running: ServerHere, card: int, now_us: int) -> None:
    where = running.engine.features.push("payments", payments((card, "a", 10.0, now_us), (card, "b", 30.0, now_us)))
    assert running.engine.features.view("card").wait(where, PATIENCE_S)
    with InferenceServerClient(running.address) as client:
        inputs = [
            given("card", np.array([card, -card]), "INT64"),
            given("amount_now", np.array([50.0, 1.0]), "FP64"),
            given("as_of", np.array([now_us + 1] * 2), "INT64"),
        ]
        result = client.infer("card", inputs)
        names = [each.name for each in client.get_model_metadata("card").outputs]
    assert names == ["features", "valid", "event_time", "status", "last_merchant"]
    np.testing.assert_array_equal(result.as_numpy("features")[0], [2, 40, 20, np.nan, 30])
    np.testing.assert_array_equal(result.as_numpy("valid")[0], [True] * len(CARD_FEATURES))
    assert result.as_numpy("event_time").tolist() == [now_us, 0]
    assert result.as_numpy("status").tolist() == [0, 1]
    assert result.as_numpy("last_merchant").tolist() == [b"b", b""]


def test_a_view_of_texts_is_inferred_by_bytes(running: ServerHere, card: int, now_us: int) -> None:
    where = running.engine.features.push("payments", payments((card, f"m{card}", 10.0, now_us)))
    assert running.engine.features.view("merchant").wait(where, PATIENCE_S)
    with InferenceServerClient(running.address) as client:
        keys = np.array([f"m{card}".encode(), b"nobody"], object)
        result = client.infer("merchant", [given("merchant", keys, "BYTES")])
        assert result.as_numpy("features")[0].tolist() == [1.0]
        with refused("INVALID_ARGUMENT", "merchant"):
            client.infer("merchant", [given("merchant", np.array([1, 2]), "INT64")])


def test_the_three_ways_to_look_up_agree(running: ServerHere, card: int, now_us: int) -> None:
    rows = [(card * 100 + index % 7, f"m{index % 3}", float(index), now_us + index) for index in range(50)]
    where = running.engine.features.push("payments", payments(*rows))
    view = running.engine.features.view("card")
    assert view.wait(where, PATIENCE_S)
    keys = np.arange(card * 100, card * 100 + 8)
    expected = view.lookup(pa.array(keys), as_of_us=now_us + 60)
    with InferenceServerClient(running.address) as client:
        as_of = given("as_of", np.full(8, now_us + 60), "INT64")
        result = client.infer("card", [given("card", keys, "INT64"), as_of])
    np.testing.assert_array_equal(result.as_numpy("features"), expected.values)
    np.testing.assert_array_equal(result.as_numpy("event_time"), expected.event_time_us)
    np.testing.assert_array_equal(result.as_numpy("status"), expected.status)
