"""How many recommendations a second one core sustains with p99 within 50 ms, beside the same pipeline glued from parts.

Measured: an open loop of Poisson arrivals against each service pinned to core 0, the generator on core 1; latency counts
from the scheduled send. A sweep finds the highest rate whose p99 stays within 50 ms with at least 99.9% of requests answered
within 200 ms; then 50% and 80% of that rate are held longer. Then items and user tower change versions under load, and every
answer is checked. The workload: a simulated shop of a million items and a million users
(`benchmarks.workloads.recommendation.world`), models trained on MovieLens; user features from the log, user tower, filtered
search for 500 candidates, gather of their 102 features, ranker, diversity and caps, a list of 20 with reasons.

    python -m benchmarks.peers.triton install                        # once, for the stack, and the one below
    python -m benchmarks.peers.environments install redis-stack stack
    python -m benchmarks.workloads.recommendation                    # once: trains the models (needs the extra `train`)
    python -m benchmarks recommendation --out .cache/bench           # fills the shop once; then some twenty minutes
    python -m benchmarks recommendation --only stack,product         # its search by inner product too: ten minutes more
    python -m benchmarks recommendation --out .cache/bench --quick   # 20,000 items and users, fixed rates: two minutes
"""

import sys
from contextlib import ExitStack

from benchmarks.command import run_command
from benchmarks.features.part import say
from benchmarks.graphs.contenders import Contender
from benchmarks.harness import LOAD_CORE
from benchmarks.load.order import LoadOrder
from benchmarks.machine import ROOT
from benchmarks.options import Options
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.slate_stack import DISTANCE, PRODUCT, FilledRedis, filled_redis
from benchmarks.recommendation.glued import CHECKED, Glued, glued
from benchmarks.recommendation.inputs import prepared
from benchmarks.recommendation.recall import thorough
from benchmarks.recommendation.refresh import RefreshPlan, refreshed
from benchmarks.recommendation.served import SLO_MS, answers, stages_of
from benchmarks.recommendation_report import TARGET_MS, RecommendationData, report_of
from benchmarks.report import Report
from benchmarks.sustained import Found, sustained
from benchmarks.sweep import SweepPlan

BUILT = ROOT / ".cache" / "recommendation"
SIZE, QUICK_SIZE = 1_000_000, 20_000
QUICK_RATES_PER_S = (25.0, 50.0, 100.0, 200.0)
PLAN, STACK_PLAN = SweepPlan(start_per_s=100.0, least_per_s=5.0), SweepPlan(start_per_s=40.0, least_per_s=2.0)
STACK = "stack"
REFRESH_SHARE, REFRESH_LEAST_PER_S = 0.3, 10.0
"""Of the rate found, while versions move: the caller checks every answer in Python."""


def run(options: Options) -> Report:
    """Measure and report."""
    size = QUICK_SIZE if options.quick else SIZE
    out = options.out / "recommendation"
    say(f"recommendation: a shop of {size:,} items")
    shop = prepared(BUILT, out, items=size, users=size, seed=options.seed)

    def measured(contender: Contender, plan: SweepPlan) -> Found:
        return sustained(contender, order_of(contender, options), plan, QUICK_RATES_PER_S, quick=options.quick)

    with ExitStack() as opened:
        redis, missing = None, []
        try:
            if not options.only or STACK in options.only:
                say("recommendation: filling the stack's Redis, which takes minutes for a million items")
                redis = opened.enter_context(filled_redis(shop, out / STACK, DISTANCE))
        except NotInstalledError as error:
            missing.append(f"The pipeline glued from parts was not run: {error}")
        say("recommendation: Vireo")
        with thorough(shop, out) as (contender, search):
            stages = stages_of(contender.port, shop.frames)
            lists = answers(contender.port, shop.frames, CHECKED)
            ours = measured(contender, PLAN)
            refresh = refreshed(shop, contender.port, refresh_plan(ours, options))

        def stack_of(redis: FilledRedis) -> Glued:
            return glued(shop, redis, out / STACK, search.recall, lambda one: measured(one, STACK_PLAN))

        stack = Glued() if redis is None else stack_of(redis)
    product = Glued()
    if redis is not None and PRODUCT in options.only:
        say("recommendation: filling another Redis, which searches by inner product")
        with filled_redis(shop, out / STACK, PRODUCT) as other:
            product = stack_of(other)
    data = RecommendationData(shop.told, ours, stages, search, refresh, stack, product, stack.alike(lists), missing)
    return report_of(options.seed, data, quick=options.quick)


def refresh_plan(ours: Found, options: Options) -> RefreshPlan:
    """At a share of the rate found."""
    rate_per_s = max(REFRESH_SHARE * (ours.rate_per_s or 0.0), REFRESH_LEAST_PER_S)
    if options.quick:
        return RefreshPlan(rate_per_s, phase_s=8.0, rounds=1, seed=options.seed)
    return RefreshPlan(rate_per_s, phase_s=30.0, rounds=3, seed=options.seed)


def order_of(contender: Contender, options: Options) -> LoadOrder:
    """The order that a sweep varies."""
    return LoadOrder(
        port=contender.port,
        frames=str(contender.frames),
        rate_per_s=QUICK_RATES_PER_S[0],
        duration_s=5.0,
        warmup_s=1.0,
        seed=options.seed,
        core=LOAD_CORE,
        deadline_ms=SLO_MS,
        target_ms=TARGET_MS,
    )


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
