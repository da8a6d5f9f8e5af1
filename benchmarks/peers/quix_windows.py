"""One tumbling window over Kafka by Quix Streams. Runs in the environment `quix`.

The order: `broker`, `group`, `topic` (JSON messages keyed by card), `events` (how many are in it), `tile_s`, `folder` (a new one
for its state), `seconds` at most. Count, sum, min, max and mean of `amount` in one window: less than what it is compared
with. The clock runs from the first message to the last.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from datetime import timedelta
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Mean, Min, Sum

Row = dict[str, Any]


def main() -> None:
    """Fold messages until all came or the time is over; tell how many that were."""
    order = json.load(sys.stdin)
    seen = {"events": 0, "began_s": 0.0, "ended_s": 0.0, "cpu_s": 0.0, "windows": 0}
    application = Application(
        broker_address=order["broker"],
        consumer_group=order["group"],
        auto_offset_reset="earliest",
        state_dir=order["folder"],
        loglevel="ERROR",
        use_changelog_topics=False,
    )

    def count(value: Row) -> Row:
        if not seen["events"]:
            seen["began_s"], seen["cpu_s"] = time.perf_counter(), time.process_time()
        seen["events"] += 1
        if seen["events"] >= order["events"] or not seen["events"] % 256:
            seen["ended_s"] = time.perf_counter()
            if seen["events"] >= order["events"] or seen["ended_s"] - seen["began_s"] > order["seconds"]:
                application.stop()
        return value

    def updated(value: Row) -> Row:
        seen["windows"] += 1
        return value

    topic = application.topic(
        order["topic"], value_deserializer="json", timestamp_extractor=lambda v, *_: v["at"] // 1000
    )
    window = application.dataframe(topic).apply(count).tumbling_window(timedelta(seconds=order["tile_s"]))
    column = "amount"
    window.agg(n=Count(), total=Sum(column), least=Min(column), most=Max(column), mean=Mean(column)).current().apply(
        updated
    )
    application.run()
    cpu_s = time.process_time() - seen["cpu_s"]
    found = {"events": seen["events"], "wall_s": seen["ended_s"] - seen["began_s"], "cpu_s": cpu_s}
    print(json.dumps({**found, "windows": seen["windows"]}))


if __name__ == "__main__":
    main()
