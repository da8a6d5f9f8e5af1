"""Where servables are placed, as the spec says, and what a deployment's own part of the spec is."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import ShardSpec, Spec, SpecError, fingerprint_of, parse_spec, spec_as_plain, spec_of_plain
from engine.control.repository import FoundModel, FoundVersion
from engine.control.rollout import wanted_artifacts

FUNCTIONS = """
functions:
  near: {call: "a:b", inputs: {x: {datatype: FP32, shape: [1]}}, outputs: {y: {datatype: FP32, shape: [1]}}}
  far: {call: "a:b", inputs: {x: {datatype: FP32, shape: [1]}}, outputs: {y: {datatype: FP32, shape: [1]}}}
graphs:
  both:
    inputs: {x: {datatype: FP32, shape: [1]}}
    nodes: {first: {call: far, inputs: {x: x}}}
    outputs: {y: first.y}
"""
VIEWS = """
logs:
  tx: {schema: {card: string, at: timestamp}, kafka: {bootstrap_servers: "b:9092", topic: t, key: card}}
  shop: {schema: {card: string, at: timestamp}, kafka: {bootstrap_servers: "b:9092", topic: s, key: at}}
  here: {schema: {card: string, at: timestamp}, local: {path: log}}
feature_views:
  cards: {source: tx, entity: card, event_time: at, features: {n: {aggregation: count, window: 1h}}}
  shops: {source: shop, entity: card, event_time: at, features: {n: {aggregation: count, window: 1h}}}
  local: {source: here, entity: card, event_time: at, features: {n: {aggregation: count, window: 1h}}}
"""
LANGUAGE = """
language_models:
  chat: {vllm: {model: weights}, answers: {bytes_max: 1000}}
  both: {upstream: {targets: {one: {provider: openai, model: m, base_url: "http://h/v1"}}, fallback: [chat]}}
"""
REPOSITORY = "repository: {path: models}\nmodels: {ranker: {}}\n"


def _parse(text: str) -> Spec:
    return parse_spec(text, folder=Path("/specs"), source="s.yaml")


def test_part_of_a_deployment_has_its_servables_and_no_door() -> None:
    spec = _parse(FUNCTIONS + REPOSITORY + "placement: {workers: {serves: [far, ranker, unlisted], gpus: 0.5}}\n")
    part = spec.part("workers")
    assert (set(part.functions), set(part.models), part.graphs) == ({"far"}, {"ranker"}, {})
    assert part.repository is not None
    assert (part.repository.control, part.repository.load) == ("explicit", ("ranker", "unlisted"))
    assert (part.server.grpc_port, part.server.http_port, part.placement) == (None, None, {})
    assert part.path("models") == Path("/specs/models")


def test_part_of_functions_alone_needs_no_repository() -> None:
    assert _parse(FUNCTIONS + REPOSITORY + "placement: {workers: {serves: [far]}}\n").part("workers").repository is None


def test_part_of_a_shard_has_the_views_and_its_partitions_of_their_logs() -> None:
    spec = _parse(VIEWS + "placement: {w: {serves: [cards], shards: 3, replicas: 2, on_lost: partial}}\n")
    part = spec.part("w", ShardSpec(1, 3))
    assert (set(part.feature_views), set(part.logs), part.server.grpc_port) == ({"cards"}, {"tx"}, None)
    kafka = part.logs["tx"].kafka
    assert kafka is not None
    assert (kafka.shard, kafka.key) == (ShardSpec(1, 3), "card")
    assert spec_of_plain(spec_as_plain(part), folder=part.folder) == part


def test_language_models_that_compute_are_placed_and_their_answers_kept_at_the_doors() -> None:
    spec = _parse(
        LANGUAGE + "placement: {w: {serves: [chat], gpus: 1.0, autoscaling: {replicas_min: 0, calm_s: 60.0}}}\n"
    )
    part = spec.part("w")
    assert list(part.language_models) == ["chat"]
    assert (part.language_models["chat"].answers, part.repository) == (None, None)
    assert part.language_models["chat"].vllm == spec.language_models["chat"].vllm
    assert part.declared("chat") == spec.declared("chat")
    assert spec.placement["w"].rests_after_s == 60.0
    assert spec_of_plain(spec_as_plain(spec), folder=spec.folder) == spec


def test_language_model_that_asks_others_runs_beside_the_doors() -> None:
    with pytest.raises(SpecError, match=r"'both' is a language model made of others, which runs beside the doors"):
        _parse(LANGUAGE + "placement: {w: {serves: [both]}}\n")


def test_who_calls_a_model_and_who_has_it_say_the_same_of_how_it_is_declared() -> None:
    files = "models: {ranker: {providers: [{tensorrt: {cache: engines}}, CPUExecutionProvider]}}\n"
    spec = _parse("repository: {path: models}\n" + files + "placement: {w: {serves: [ranker], gpus: 1.0}}\n")
    found = FoundModel("ranker", {1: FoundVersion(Path("/specs/models/ranker/1/model.onnx"), "")})
    for each in (spec, spec.part("w")):
        (loaded,) = wanted_artifacts(each, {"ranker": found}, {"ranker"})
        assert fingerprint_of(loaded.settings) == spec.declared("ranker") == each.declared("ranker")


@pytest.mark.parametrize(
    ("placement", "told"),
    [
        ("{w: {serves: [cards]}}", "'cards' is a feature view, which runs beside the doors"),
        ("{w: {serves: [local], shards: 2}}", "log 'here' is one process's folder; shards read a Kafka topic"),
        ("{w: {serves: [shops], shards: 2}}", "the 'key' of log 'shop' must be its entity 'card', and is 'at'"),
        ("{w: {serves: [far], shards: 2}}", "'far' is no feature view or collection, and only those have shards"),
        ("{w: {serves: [cards], shards: 0}}", "placement.w.shards: must be from 1 to 256, got 0"),
        ("{w: {serves: [far], on_lost: partial}}", "placement.w.on_lost: says what a lost shard means"),
        ("{ingress: {shards: 2}}", "placement.ingress.shards: the ingress has replicas only"),
        ("{w: {serves: [cards], shards: 2}, w-1-of-2: {serves: [far]}}", "a shard of 'w' is called so already"),
    ],
)
def test_shards_that_make_no_sense_are_refused(placement: str, told: str) -> None:
    with pytest.raises(SpecError, match=r"^s.yaml:\d+: placement") as refused:
        _parse(f"{FUNCTIONS}{VIEWS}placement: {placement}\n")
    assert told in str(refused.value)


def test_spec_with_a_placement_is_read_back_from_json() -> None:
    spec = _parse(
        FUNCTIONS
        + "placement: {w: {serves: [far], node_labels: {pool: gpu}, autoscaling: {replicas_max: 4}}, ingress: {replicas: 2}}\n"
    )
    assert spec_of_plain(spec_as_plain(spec), folder=spec.folder) == spec


@pytest.mark.parametrize(
    ("placement", "told"),
    [
        ("{ingress: {serves: [far]}}", "placement.ingress.serves: the ingress serves what is placed nowhere else"),
        ("{w: {}}", "placement.w: needs 'serves'"),
        ("{w: {serves: [far]}, v: {serves: [far]}}", "placement.v.serves: 'far' is placed in 'w' already"),
        ("{w: {serves: [both]}}", "'both' is a graph, which runs beside the doors"),
        (
            "{w: {serves: [fat]}}",
            "'fat' cannot be placed: there is no such function, and no repository; nearest: 'far'",
        ),
        ("{w: {serves: [far], replicas: 0}}", "placement.w.replicas: must be from 1 to 1024, got 0"),
        (
            "{w: {serves: [far], autoscaling: {replicas_min: 3, replicas_max: 2}}}",
            "replicas_min: must be from 0 to 2, got 3",
        ),
        (
            "{w: {serves: [far], autoscaling: {queue_wait_ms: null, misses_max: null}}}",
            "placement.w.autoscaling: needs a bound, one of queue_wait_ms, misses_max, calls_target, by which it scales",
        ),
        (
            "{w: {serves: [far], autoscaling: {misses_max: 2.0}}}",
            "autoscaling.misses_max: must be from 1e-06 to 1, got 2",
        ),
        ("{w: {serves: [far], autoscaling: {queue_wait_ms: 0.0}}}", "queue_wait_ms: must be from 0.1 to 1e+06, got 0"),
        ("{w: {serves: [far], autoscaling: {calm_s: 0.0}}}", "calm_s: must be from 1 to 86400, got 0"),
        ("{w: {serves: [far], autoscaling: {replicas_min: 0}}}", "0 is for a deployment of language models alone"),
        ("{ingress: {autoscaling: {replicas_min: 0}}}", "0 is for a deployment of language models alone"),
    ],
)
def test_placement_that_makes_no_sense_is_refused(placement: str, told: str) -> None:
    with pytest.raises(SpecError, match=r"^s.yaml:\d+: placement") as refused:
        _parse(f"{FUNCTIONS}placement: {placement}\n")
    assert told in str(refused.value)


def test_models_that_change_while_serving_are_not_placed_apart() -> None:
    text = FUNCTIONS + "repository: {path: models, control: poll}\nplacement: {w: {serves: [ranker]}}\n"
    with pytest.raises(SpecError, match="models of a repository with control 'poll' run beside the doors"):
        _parse(text)


def test_state_in_folders_allows_one_ingress() -> None:
    text = FUNCTIONS + "logs: {l: {local: {path: log}, schema: {k: string}}}\nplacement: {ingress: {replicas: 2}}\n"
    with pytest.raises(SpecError, match="several replicas cannot share the folders of 'logs'"):
        _parse(text)
