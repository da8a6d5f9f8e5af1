"""The recommendation pipeline glued from parts: Redis for features and search, Triton for the ranker, a lean gateway in Python
that asks them and makes the slate. Runs in the environment `stack`.

    python -I slate_gateway.py ORDER.json

The order: `port`, `redis_port`, `triton_port`, `tower` (.npz: the user tower's weights), `search` and `ef` (see slate_store),
`rows` ("mget": rows of candidates are fetched after the search; "return": they come with it), `candidates`, `k`, `relevance`,
`cap` (of a category).

As lean as it can be in Python: hiredis, one round trip for a user, one or two for candidates, rows packed as the ranker wants
them, the tower in numpy rather than another call, requests to Triton made by appending bytes to a prepared message. On grpc.aio
and uvloop; Redis is waited for on the loop, which costs less than its asyncio client where all share one core.
"""

# mypy: disable-error-code="import-not-found,import-untyped,attr-defined,no-any-return"

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb

sys.path.append(str(Path(__file__).parent))  # -I leaves it out
from slate_store import offered_in, search_words
from stack_gateway import RAW_INPUT_TAG, SERVICE, answer_by, varint

FEATURES, VECTOR = 38, 64
MODEL = "ranker"


class Tower:
    """The user tower in numpy; weights by the names of the exported model."""

    def __init__(self, file: str) -> None:
        with np.load(file) as stored:
            weights = dict(stored)
        self.past = weights["past.weight"]
        self.direct = weights["past_direct.weight"], weights.get("past_direct.bias", 0)
        self.hidden = weights["user_hidden.weight"], weights.get("user_hidden.bias", 0)
        self.last = weights["user_last.weight"], weights.get("user_last.bias", 0)

    def __call__(self, user: Any, history: Any) -> Any:  # noqa: ANN401
        """user [43], history [50] to vector [64]."""
        known = np.where((history > 0) & (history < len(self.past)), history, 0)
        past = self.past[known].sum(axis=0) / np.float32(np.count_nonzero(known) + 1)
        hidden = np.maximum(np.concatenate([user, past]) @ self.hidden[0] + self.hidden[1], 0)
        return past @ self.direct[0] + self.direct[1] + hidden @ self.last[0] + self.last[1]


class Shop:
    """What Redis knows."""

    def __init__(self, order: dict[str, Any]) -> None:
        import redis

        self.client = redis.Redis(port=order["redis_port"])
        self.search, self.ef, self.candidates = order["search"], order["ef"], order["candidates"]
        self.returned = order["rows"] == "return"

    def user(self, number: int) -> Any:  # noqa: ANN401
        """[43]."""
        return np.frombuffer(self.client.get(f"u:{number}"), "<f4")

    def found(self, vector: Any, region: int, seen: list[int]) -> tuple[Any, Any]:  # noqa: ANN401
        """Numbers [n] of the best that are offered and not seen, and their rows [n, 103]."""
        k = self.candidates + len(seen)
        words = search_words(vector, region, search=self.search, k=k, ef=self.ef, with_rows=self.returned)
        answer = self.client.execute_command(*words)
        if self.returned:
            keys, packed = answer[1::2], [each[1] for each in answer[2::2]]
        else:
            keys = answer[1:]
            packed = self.client.mget([b"p" + key[1:] for key in keys])
        numbers = np.array([int(key[2:]) for key in keys])
        rows = np.frombuffer(b"".join(packed), "<f4").reshape(len(packed), FEATURES + VECTOR + 2)
        kept = np.flatnonzero(offered_in(region, rows) & ~np.isin(numbers, seen))[: self.candidates]
        return numbers[kept], rows[kept, :-1]


def ranker_message(user: Any, vector: Any, rows: Any, numbers: Any) -> bytes:  # noqa: ANN401
    """The request to Triton."""
    count = len(numbers)
    parts = [
        ("user", "FP32", [1, len(user)], user), ("user_vector", "FP32", [1, VECTOR], vector.astype("<f4")),
        ("items", "FP32", [count, FEATURES + VECTOR], np.ascontiguousarray(rows[:, :-1])), ("item", "INT64", [count], numbers),
        ("category", "INT64", [count], rows[:, -1].astype("<i8")),
    ]  # fmt: skip
    asked = pb.ModelInferRequest(model_name=MODEL)
    for name, datatype, shape, _ in parts:
        asked.inputs.add(name=name, datatype=datatype, shape=shape)
    asked.outputs.add(name="score")
    raw = b"".join(RAW_INPUT_TAG + varint(each.nbytes) + each.tobytes() for *_, each in parts)
    return asked.SerializeToString() + raw


def slate_of(scores: Any, rows: Any, order: dict[str, Any]) -> list[int]:  # noqa: ANN401
    """Maximal marginal relevance with a cap, a round of numpy for each place."""
    vectors, category = rows[:, FEATURES:-1], rows[:, -1].astype(np.int64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    low, high = scores.min(), scores.max()
    gains = order["relevance"] * (scores - low) / max(high - low, 1e-12)
    weight, shown = 1 - order["relevance"], np.zeros(category.max() + 1, np.int64)
    nearest, chosen = np.full(len(scores), -2.0, np.float32), []
    at = int(scores.argmax())
    while True:
        chosen.append(at)
        gains[at] = -np.inf
        shown[category[at]] += 1
        if shown[category[at]] == order["cap"]:
            gains[category == category[at]] = -np.inf
        if len(chosen) == order["k"]:
            return chosen
        np.maximum(nearest, unit @ unit[at], out=nearest)
        left = gains - weight * nearest
        at = int(left.argmax())
        if not np.isfinite(left[at]):
            return chosen


def answer_of(numbers: Any, scores: Any, retrieval: Any) -> bytes:  # noqa: ANN401
    """The list."""
    answered = pb.ModelInferResponse(model_name="recommend", model_version="1")
    for name, datatype, values in (
        ("item", "INT64", numbers),
        ("score", "FP32", scores),
        ("retrieval", "FP32", retrieval),
    ):
        answered.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        answered.raw_output_contents.append(values.tobytes())
    return answered.SerializeToString()


async def serve(order: dict[str, Any]) -> None:
    """Until a signal."""
    tower, shop = Tower(order["tower"]), Shop(order)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{order['triton_port']}")
    infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")

    async def model_infer(message: bytes, _: object) -> bytes:
        request = pb.ModelInferRequest.FromString(message)
        given = dict(zip([each.name for each in request.inputs], request.raw_input_contents, strict=True))
        user = shop.user(int.from_bytes(given["user"], "little"))
        vector = tower(user, np.frombuffer(given["history"], "<i8"))
        seen = np.frombuffer(given["seen"], "<u8").tolist()
        numbers, rows = shop.found(vector, int.from_bytes(given["region"], "little"), seen)
        scored = pb.ModelInferResponse.FromString(await infer(ranker_message(user, vector, rows, numbers)))
        scores = np.frombuffer(scored.raw_output_contents[0], "<f4")
        chosen = slate_of(scores, rows, order)
        return answer_of(numbers[chosen], scores[chosen], rows[chosen, FEATURES:-1] @ vector)

    await answer_by(model_infer, order["port"])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.loads(Path(sys.argv[1]).read_text())))
