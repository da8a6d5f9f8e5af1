"""Counters of our server, read from its Prometheus page."""

import re
import urllib.request

SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
MODEL = re.compile(r'model="([^"]*)"')
READ_S_MAX = 10.0

Counters = dict[tuple[str, str], float]
"""By counter and servable."""


def read_counters(http_port: int) -> Counters:
    """Everything that has a label `model`, summed over the others."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=READ_S_MAX) as answer:
        return counters_of(answer.read().decode())


def counters_of(page: str) -> Counters:
    """The same of a page at hand. Pure."""
    found: Counters = {}
    for sample in SAMPLE.finditer(page):
        model = MODEL.search(sample["labels"])
        if model is not None:
            key = (sample["name"], model[1])
            found[key] = found.get(key, 0.0) + float(sample["value"])
    return found


def grown(before: Counters, after: Counters, name: str, *, but: str | None = None) -> float:
    """By how much a counter grew over all servables, `but` left out."""
    return sum(
        value - before.get((counter, model), 0.0)
        for (counter, model), value in after.items()
        if counter == name and model != but
    )
