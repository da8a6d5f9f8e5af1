"""Logs and features over HTTP, by httpx."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.serving.features.events import ARROW, CARD_FEATURES, as_stream, iso, payments, refused_http
from tests.serving.servers import ServerHere

PUSH = "/v1/logs/payments/push"
GET = "/v1/features/card/get"


def push(http: httpx.Client, *rows: dict[str, object]) -> None:
    """Appends payments and waits until both views show them."""
    answer = http.post(PUSH, params={"wait": "card,merchant", "wait_ms": "20000"}, json={"rows": rows})
    assert answer.status_code == 200, answer.text
    assert answer.json()["pending"] == []


def test_features_of_entities_come_as_rows(http: httpx.Client, card: int, now_us: int) -> None:
    at = {"card": card, "at": iso(now_us)}
    push(http, {**at, "merchant": "a", "amount": 10}, {**at, "merchant": "b", "amount": 30.0})
    answer = http.post(GET, json={"entities": [card, -card], "as_of": None, "request": {"amount_now": [50, 1]}})
    assert answer.status_code == 200
    told = answer.json()
    assert told["features"] == CARD_FEATURES
    assert told["rows"][0] == [2, 40, 20, "b", 30]
    assert told["rows"][1][2:] == [None, None, None]
    assert told["status"] == ["present", "missing"]
    assert told["event_time"][1] is None
    assert pa.array(told["event_time"]).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist() == [now_us, None]


def test_chosen_features_at_an_instant(http: httpx.Client, card: int, now_us: int) -> None:
    push(http, {"card": card, "at": now_us, "amount": 10})
    later = iso(now_us + 3_601_000_000)
    wanted = {"entities": [card], "features": ["amount_1h", "payments_1h"]}
    assert http.post(GET, json={**wanted, "as_of": iso(now_us + 1)}).json()["rows"] == [[10, 1]]
    stale = http.post(GET, json={**wanted, "as_of": [later]}).json()
    assert (stale["rows"], stale["status"]) == ([[None, None]], ["stale"])


def test_arrow_goes_in_and_out(http: httpx.Client, card: int, now_us: int) -> None:
    body = as_stream(payments((card, "a", 10.0, now_us)))
    answer = http.post(f"{PUSH}?wait=card&wait_ms=20000", content=body, headers={"content-type": ARROW})
    assert answer.json()["pending"] == []
    asked = as_stream(pa.record_batch({"card": pa.array([card, -card], pa.int32())}))
    for given in ({"json": {"entities": [card, -card]}}, {"content": asked}):
        kind = {"content-type": ARROW} if "content" in given else {}
        answer = http.post(GET, **given, headers={"accept": ARROW, **kind})
        assert answer.headers["content-type"] == ARROW
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table.column_names == [*CARD_FEATURES, "event_time", "status"]
        row, missing = table.to_pylist()
        assert (row["payments_1h"], row["last_merchant"], row["excess"], row["status"]) == (1, "a", None, "present")
        assert row["event_time"].timestamp() == pytest.approx(now_us / 1e6)
        assert set(missing.values()) == {None, "missing"} or missing["status"] == "missing"


def test_bodies_may_be_compressed_either_way(http: httpx.Client, card: int, now_us: int) -> None:
    push(http, {"card": card, "at": now_us, "amount": 10})
    body = gzip.compress(b'{"entities": [%s]}' % b",".join([b"%d" % card] * 500))
    answer = http.post(GET, content=body, headers={"content-encoding": "gzip", "accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["rows"] == [answer.json()["rows"][0]] * 500


def test_a_view_and_a_log_describe_themselves(http: httpx.Client) -> None:
    assert http.get("/v1/features").json() == {"views": ["card", "merchant"]}
    told = http.get("/v1/features/card").json()
    assert [each["name"] for each in told["features"]] == CARD_FEATURES
    assert told["declaration"]["max_age"] == "1h"
    assert told["statistics"]["restored"] is True
    logs = {each["log"]: each["columns"] for each in http.get("/v1/logs").json()["logs"]}
    assert logs["payments"][0] == {"name": "card", "type": "int64", "nullable": False}
    with refused_http(404, "nearest: 'card'") as put:
        put.append(http.get("/v1/features/cart"))


def test_the_api_description_has_every_path(http: httpx.Client) -> None:
    told = http.get("/openapi.json").json()
    operation = told["paths"]["/v1/logs/{log}/push"]["post"]
    assert operation["parameters"][0]["name"] == "log"
    assert set(operation["requestBody"]["content"]) == {"application/json", ARROW}
    assert set(told["paths"]["/v1/features/{view}/get"]["post"]["requestBody"]["content"]) == {
        "application/json",
        ARROW,
    }
    assert {"/v1/features", "/v1/features/{view}", "/v1/logs"} <= set(told["paths"])


WRONG_PUSHES: list[tuple[int, dict[str, Any], tuple[str, ...]]] = [
    (400, {"content": b""}, ("request body",)),
    (400, {"content": b"{"}, ("request body",)),
    (400, {"content": b"\xff\xfe"}, ("request body",)),
    (400, {"content": b"[" * 100_000}, ("request body",)),
    (400, {"json": [{"card": 1}]}, ("object",)),
    (400, {"json": {"rows": {"card": 1}}}, ("array", "rows")),
    (400, {"json": {"rows": [{"card": 1}, 5]}}, ("$.rows[1]", "object", "int")),
    (400, {"json": {"rows": [], "row": []}}, ("unknown key 'row'; nearest: 'rows'",)),
    (400, {"json": {"rows": [{"card": 1}, {"card": "1x"}]}}, ("rows[1].card", "int64", "'1x'")),
    (400, {"json": {"rows": [{"card": 10**30}]}}, ("rows[0].card", "int64")),
    (400, {"content": b'{"rows": [{"card": NaN}]}'}, ("request body",)),
    (400, {"content": b'{"rows": [{"card": 1, "amount": 1e999}]}'}, ("$.rows[0]",)),
    (400, {"json": {"rows": [{"card": 1, "at": "26.11.2026"}]}}, ("rows[0].at", "ISO 8601")),
    (400, {"json": {"rows": [{"card": 1, "colour": "red"}]}}, ("rows[0]", "'colour'")),
    (400, {"content": b"arrow?", "headers": {"content-type": ARROW}}, ("Arrow",)),
    (400, {"content": b"x", "headers": {"content-type": "application/vnd.apache.arrow.file"}}, (ARROW,)),
    (400, {"json": {"rows": [{"card": 1}]}, "params": {"wait_ms": "soon"}}, ("wait_ms", "'soon'")),
    (400, {"json": {"rows": [{"card": 1}]}, "params": {"wit": "card"}}, ("'wit'", "nearest: 'wait'")),
    (404, {"json": {"rows": [{"card": 1}]}, "params": {"wait": "cart"}}, ("'cart'", "nearest: 'card'")),
    (413, {"content": b" " * ((64 << 20) + 1)}, ("message_bytes_max",)),
]


@pytest.mark.parametrize(("status", "given", "words"), WRONG_PUSHES, ids=range(len(WRONG_PUSHES)))
def test_a_wrong_push_is_told_with_its_place(
    http: httpx.Client, status: int, given: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused_http(status, *words) as put:
        put.append(http.post(PUSH, **given))


WRONG_GETS: list[tuple[int, dict[str, Any], tuple[str, ...]]] = [
    (400, {"json": {}}, ("entities",)),
    (400, {"json": {"entities": 5}}, ("array", "entities")),
    (400, {"json": {"entities": [1], "feature": ["x"]}}, ("unknown key 'feature'; nearest: 'features'",)),
    (400, {"json": {"entities": [1, "x"]}}, ("entities[1]", "int64", "'x'")),
    (400, {"json": {"entities": [1, None]}}, ("entities[1]", "null")),
    (400, {"json": {"entities": [1.5]}}, ("entities[0]", "1.5")),
    (400, {"content": b'{"entities": [NaN]}'}, ("request body",)),
    (400, {"json": {"entities": [2**63]}}, ("entities[0]", "int64")),
    (400, {"json": {"entities": [1], "as_of": "now"}}, ("as_of", "ISO 8601", "'now'")),
    (400, {"json": {"entities": [1, 2], "as_of": [None, 5]}}, ("as_of[0]", "null")),
    (400, {"json": {"entities": [1, 2], "as_of": [5, 5, 5]}}, ("as_of", "3 values for 2 entities")),
    (400, {"json": {"entities": [1], "features": ["paymets_1h"]}}, ("'paymets_1h'", "nearest: 'payments_1h'")),
    (400, {"json": {"entities": [1], "features": [5]}}, ("features",)),
    (400, {"json": {"entities": [1], "request": {"amount": [1]}}}, ("'amount'", "nearest: 'amount_now'")),
    (400, {"json": {"entities": [1, 2], "request": {"amount_now": [1, "x"]}}}, ("request.amount_now[1]", "'x'")),
    (400, {"json": {"entities": [1, 2, 3], "request": {"amount_now": [1, 2]}}}, ("amount_now", "2 values for 3")),
    (413, {"json": {"entities": [1] * 100_001}}, ("100001", "100000")),
]


@pytest.mark.parametrize(("status", "given", "words"), WRONG_GETS, ids=range(len(WRONG_GETS)))
def test_a_wrong_lookup_is_told_with_its_place(
    http: httpx.Client, status: int, given: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused_http(status, *words) as put:
        put.append(http.post(GET, **given))


COLUMNS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"cart": pa.array([1])}, ("'cart'", "nearest: 'card'")),
    ({"amount_now": pa.array([1.0])}, ("'card'", "entity")),
    ({"card": pa.array(["1"])}, ("'card'", "int64", "string")),
    ({"card": pa.array([1.0])}, ("'card'", "int64", "double")),
    ({"card": pa.array([1, None, 3])}, ("row 1", "'card'", "null")),
    ({"card": pa.array([1 << 63], pa.uint64())}, ("'card'", "int64")),
    ({"card": pa.array([1]), "as_of": pa.array([None], pa.int64())}, ("row 0", "'as_of'")),
    ({"card": pa.array([1]), "as_of": pa.array([1], pa.timestamp("us"))}, ("'as_of'", "tz=UTC")),
    ({"card": pa.array([1]), "amount_now": pa.array(["x"])}, ("'amount_now'", "double", "string")),
    ({"card": pa.array([], pa.int64())}, ("no rows",)),
]


@pytest.mark.parametrize(("columns", "words"), COLUMNS, ids=range(len(COLUMNS)))
def test_a_wrong_column_is_told_by_its_name(
    http: httpx.Client, columns: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused_http(400, *words) as put:
        body = as_stream(pa.record_batch(columns))
        put.append(http.post(GET, content=body, headers={"content-type": ARROW}))


def test_metrics_tell_how_each_view_is_doing(http: httpx.Client, card: int, now_us: int, running: ServerHere) -> None:
    push(http, {"card": card, "at": now_us}, {"card": card, "at": now_us - 7 * 86_400_000_000}, {"card": card})
    lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if not line.startswith("#"))
    counted = running.engine.features.view("card").statistics()
    assert float(lines['vireo_feature_view_ready{view="card"}']) == 1
    assert float(lines['vireo_feature_entities{view="card"}']) == counted.entities
    assert float(lines['vireo_feature_events_applied_total{view="card"}']) == counted.applied
    assert float(lines['vireo_feature_events_late_total{view="card"}']) == counted.late
    assert float(lines['vireo_feature_events_dead_total{view="card"}']) == counted.dead
    assert counted.late >= 1
    assert counted.dead >= 2
    assert float(lines['vireo_feature_bytes{view="card"}']) > 0
    assert float(lines['vireo_feature_lag_rows{view="card"}']) == 0
    assert float(lines['vireo_feature_watermark_seconds{view="card"}']) >= now_us / 1e6 - 1
