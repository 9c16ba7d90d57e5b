"""Which variant answers, what plans change, and what is counted; on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from fakes.archives import endpoint_plan, fleet, package
from fakes.clock import virtual
from fakes.serving import World, refused, request

from hostler.core import Code, Context, HostlerError
from hostler.serving import (
    Endpoint,
    Endpoints,
    Outcome,
    Shadow,
    ShadowPlan,
    StagePlan,
    VariantPlan,
    compare,
)

V = "endpoint/e/1/v/0"


def applied(world: World, *fleets: Any, **more: Any) -> Endpoint:
    world.serving.endpoints.apply(endpoint_plan(*fleets, **more))
    found = world.serving.endpoints.find("e")
    assert found is not None
    return found


def chosen(endpoint: Endpoint, count: int, target: str = "") -> dict[tuple[int, str], int]:
    variants = [endpoint.choose(target) for _ in range(count)]
    return dict(Counter((variant.generation, variant.name) for variant in variants))


# -- who answers ---------------------------------------------------------------------------


@virtual
async def test_requests_go_by_weight_within_fleets_and_by_their_shares() -> None:
    world = World()
    endpoint = applied(world, fleet(1, 0.9, a=2, b=1), fleet(2, 0.1, a=1))
    assert chosen(endpoint, 300) == {(1, "a"): 180, (1, "b"): 90, (2, "a"): 30}
    assert [(r.variant, r.generation, round(r.share, 6)) for r in endpoint.rows()] == [
        ("a", 1, 0.6),
        ("b", 1, 0.3),
        ("a", 2, 0.1),
    ]


@virtual
async def test_a_named_variant_is_asked_across_fleets_whatever_its_weight() -> None:
    world = World()
    endpoint = applied(
        world, fleet(1, 0.75, a=1, z=0), fleet(2, 0.25, a=5, z=1), fleet(3, 0.0, x=1)
    )
    assert chosen(endpoint, 100, "z") == {(1, "z"): 75, (2, "z"): 25}
    assert chosen(endpoint, 100, "a") == {(1, "a"): 75, (2, "a"): 25}
    assert (1, "z") not in chosen(endpoint, 1000)
    for unknown in ("y", "x"):
        with pytest.raises(HostlerError, match=f"'{unknown}' is not found .*'a', 'z'") as caught:
            endpoint.choose(unknown)
        assert caught.value.code is Code.NOT_FOUND


@virtual
async def test_an_endpoint_of_which_nothing_is_up_says_so() -> None:
    endpoint = applied(World())
    for target in ("", "a"):
        with pytest.raises(HostlerError, match="'e' has no instances that can serve") as caught:
            endpoint.choose(target)
        assert caught.value.code is Code.UNAVAILABLE


@virtual
async def test_a_variant_that_comes_up_later_is_not_unknown() -> None:
    endpoint = applied(World(), fleet(1, a=1), awaited=("b",))
    assert chosen(endpoint, 5) == {(1, "a"): 5}
    for name, code in (("b", Code.UNAVAILABLE), ("c", Code.NOT_FOUND)):
        with pytest.raises(HostlerError, match=f"variant '{name}'") as caught:
            endpoint.choose(name)
        assert caught.value.code is code
    endpoint = applied(World(), fleet(1, a=0), awaited=("b",))
    with pytest.raises(HostlerError, match="no instances that can serve now") as caught:
        endpoint.choose()
    assert caught.value.code is Code.UNAVAILABLE


@virtual
async def test_where_all_weights_are_zero_only_named_variants_answer() -> None:
    world = World()
    endpoint = applied(world, fleet(1, 1.0, a=0, b=0))
    with pytest.raises(HostlerError, match=r"'e'.*weights.*0.*'a', 'b'") as caught:
        endpoint.choose()
    assert caught.value.code is Code.UNAVAILABLE
    assert endpoint.choose("b").name == "b"
    both = applied(world, fleet(1, 0.5, a=0, b=0), fleet(2, 0.5, a=1))
    assert chosen(both, 10) == {(2, "a"): 10}, "a fleet that takes nothing leaves all to the other"


@virtual
async def test_a_plan_that_changes_nothing_interrupts_no_round() -> None:
    world = World()
    names = [applied(world, fleet(1, 1.0, a=3, b=1)).choose().name for _ in range(8)]
    assert names == [*"aaab"] * 2
    names = [applied(world, fleet(1, 1.0, a=3, b=1)).choose("b").name for _ in range(3)]
    assert names == ["b"] * 3


@virtual
async def test_endpoints_come_and_go_by_name() -> None:
    endpoints: Endpoints = World().serving.endpoints
    endpoints.apply(endpoint_plan(fleet(1, a=1)))
    endpoints.apply(replace(endpoint_plan(fleet(1, a=1)), name="d"))
    assert endpoints.names() == ["d", "e"]
    assert [row.endpoint for row in endpoints.rows()] == ["d", "e"]
    endpoints.remove("e")
    endpoints.remove("e")
    assert endpoints.find("e") is None
    assert endpoints.names() == ["d"]


@virtual
async def test_counters_go_on_while_generation_and_name_stay() -> None:
    world = World()
    first = applied(world, fleet(1, 1.0, a=1, b=1))
    a = first.choose("a")
    a.begin()
    a.end(0.1, None)
    second = applied(world, fleet(1, 0.5, a=3), fleet(2, 0.5, a=1))
    assert second.variants[1, "a"] is a
    assert a.plan.weight == 3
    assert second.variants[2, "a"] is not a
    totals = {(r.generation, r.variant): r.total.invocations for r in second.rows()}
    assert totals == {(1, "a"): 1, (2, "a"): 0}
    assert applied(world, fleet(2, 1.0, a=1)).rows()[0].total.invocations == 0


# -- one request ---------------------------------------------------------------------------


@virtual
async def test_a_variant_gives_its_model_in_memory_or_loads_it() -> None:
    async with World() as world:
        variant = applied(world, fleet(1, v=1)).choose()
        await refused(variant.acquire(0, "", Context()), Code.UNAVAILABLE, f"'{V}'")
        await world.serving.host([package(V)])
        assert variant.live(0) is None
        live = await variant.acquire(0, "", Context())
        assert live.pins == 1
        assert variant.live(0) is live
        live.release()
        assert variant.live(0, "x.tar.gz") is None
        wrong = variant.acquire(0, "x.tar.gz", Context())
        await refused(wrong, Code.INVALID_ARGUMENT, "takes no target model", "'v'", "'e'")


@virtual
async def test_requests_of_a_removed_fleet_finish() -> None:
    async with World() as world:
        await world.serving.host([package(V)])
        variant = applied(world, fleet(1, v=1)).choose()
        variant.begin()
        live = await variant.acquire(0, "", Context())
        answer = live.infer(request())
        world.serving.endpoints.remove("e")
        gone = asyncio.ensure_future(world.serving.unhost([V]))
        await asyncio.sleep(1.0)
        assert world.serving.endpoints.busy()
        world.schedulers[V].finish()
        assert (await answer).parameters == {"model": f"{V}:1"}
        live.release()
        variant.end(1.0, None)
        await gone
        await asyncio.sleep(1.0)
        assert not world.serving.endpoints.busy()
        assert world.serving.endpoints._leaving == {}


@virtual
async def test_a_pipeline_goes_on_while_the_server_stops() -> None:
    async with World() as world:
        await world.serving.host([package(V), package("endpoint/e/1/v/1")])
        stages = (StagePlan(model=V), StagePlan(model="endpoint/e/1/v/1"))
        pipeline = replace(fleet(1, v=1), variants=(VariantPlan("v", stages),))
        variant = applied(world, pipeline).choose()
        variant.begin()
        (await variant.acquire(0, "", Context())).release()
        stop = asyncio.ensure_future(world.serving.stop(5.0))
        await asyncio.sleep(1.0)
        assert not stop.done(), "between two containers it holds no pin"
        await refused(variant.acquire(0, "", Context()), Code.UNAVAILABLE, "stopping")
        (await variant.acquire(1, "", Context())).release()
        variant.end(1.0, None)
        await stop


@virtual
async def test_a_variant_takes_so_many_requests_at_a_time() -> None:
    world = World()
    plan = fleet(1, v=1)
    limited = replace(plan, variants=(replace(plan.variants[0], concurrency_max=2),))
    variant = applied(world, limited).choose()
    variant.begin()
    variant.begin()
    with pytest.raises(HostlerError, match="'v' of endpoint 'e' works on 2 requests") as caught:
        variant.begin()
    assert (caught.value.code, caught.value.retry_after_s) == (Code.QUEUE_FULL, 1.0)
    variant.end(0.1, None)
    variant.begin()
    [row] = world.serving.endpoints.rows()
    assert (row.in_flight, row.refused, row.total.invocations) == (2, 1, 1)
    assert applied(world, plan).choose() is variant
    variant.begin()
    assert variant.in_flight == 3


@virtual
async def test_windows_are_of_the_clock() -> None:
    world = World()
    variant = applied(world, fleet(1, v=1)).choose()
    for error in (None, HostlerError(Code.MODEL_ERROR, "no", details={"status": 500})):
        variant.begin()
        variant.end(0.2, error)
        await asyncio.sleep(10.0)
    window = variant.window(60.0)
    assert (window.invocations, window.errors_5xx, window.model_errors) == (2, 1, 1)
    assert variant.window(11.0).invocations == 1
    assert variant.window(11.0).errors_5xx == 1
    assert variant.window(5.0).invocations == 0


# -- shadows -------------------------------------------------------------------------------


def shadowed(world: World, share: float = 0.1, of: str = "", generation: int = 1) -> Shadow:
    plan = ShadowPlan(
        VariantPlan("s", (StagePlan(model=f"endpoint/e/{generation}/s/0"),)), share, of
    )
    (shadow,) = applied(world, fleet(generation, a=1, b=1), shadows=(plan,)).shadows
    return shadow


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1 / 3, 1.0])
@virtual
async def test_a_shadow_wants_its_share_evenly(share: float) -> None:
    world = World()
    shadow = shadowed(world, share)
    variant = world.serving.endpoints.find("e").choose()  # type: ignore[union-attr]
    wanted = [shadow.wants(variant) for _ in range(300)]
    for first in range(0, 300, 30):
        assert sum(wanted[first : first + 30]) == round(30 * share)


@virtual
async def test_a_shadow_copies_one_variant_alone_where_it_says_so() -> None:
    world = World()
    shadow = shadowed(world, 1.0, "b")
    endpoint = world.serving.endpoints.find("e")
    assert endpoint is not None
    assert not shadow.wants(endpoint.choose("a"))
    assert shadow.wants(endpoint.choose("b"))
    assert shadow.summary()["requests"] == 1
    assert chosen(endpoint, 10).keys() == {(1, "a"), (1, "b")}, "nobody else gets its answers"
    [*_, row] = endpoint.rows()
    assert (row.variant, row.shadow, row.share) == ("s", True, 1.0)


@virtual
async def test_what_a_shadow_has_recorded_goes_on_with_its_generation() -> None:
    world = World()
    shadow = shadowed(world, 0.1)
    shadow.record(compare(Outcome(0.1, b"[1]"), Outcome(0.2, b"[1]")))
    again = shadowed(world, 0.5)
    assert again is shadow
    assert (again.plan.share, again.summary()["compared"]) == (0.5, 1)
    assert shadowed(world, 0.5, generation=2).summary()["compared"] == 0


@virtual
async def test_comparisons_are_summed_up() -> None:
    shadow = shadowed(World())
    fine = Outcome(0.2, b"[1, 2]", "application/json")
    failed = Outcome(3.0, error=HostlerError(Code.MODEL_ERROR, "x" * 9999))
    for other in (fine, Outcome(0.2, b"[4, 2]", "application/json"), failed):
        shadow.record(compare(fine, other))
    shadow.record(compare(failed, failed))
    summary: Any = json.loads(json.dumps(shadow.summary(), allow_nan=False))
    counts = {name: summary[name] for name in ("compared", "equal", "numeric")}
    assert counts == {"compared": 4, "equal": 2, "numeric": 2}
    errors = [summary[f"{who}_errors"] for who in ("primary", "shadow", "shadow_only")]
    assert errors == [1, 2, 1]
    assert summary["difference"] == {
        "numbers": 4,
        "absolute_max": 3.0,
        "absolute_mean": 0.75,
        "relative_max": 0.75,
        "relative_mean": 0.1875,
        "rows": 2,
        "rows_agreed": 1,
    }
    assert summary["latency"]["primary"]["count"] == 4
    assert 0.1 < summary["latency"]["primary"]["p50_s"] < 0.25
    assert 2.5 < summary["latency"]["shadow"]["p99_s"] <= 5.0
    assert [e["shadow"]["body"] for e in summary["examples"]] == ["", "[4, 2]"], "the worst first"
    assert len(summary["examples"][0]["shadow"]["error"]) == 512


@virtual
async def test_examples_are_bounded_and_the_worst_stay() -> None:
    shadow = shadowed(World())
    for index in range(100):
        body = b"[%d]" % (1000 + index)
        shadow.record(compare(Outcome(0.1, b"[1000]"), Outcome(0.1, body + b" " * 2000)))
    summary: Any = shadow.summary()
    bodies = [int(example["shadow"]["body"].strip(" []")) for example in summary["examples"]]
    assert bodies == list(range(1099, 1089, -1))
    assert all(len(example["shadow"]["body"]) == 512 for example in summary["examples"])


@virtual
async def test_what_is_not_finite_is_no_number_in_json() -> None:
    shadow = shadowed(World())
    shadow.record(compare(Outcome(0.1, b"[NaN]"), Outcome(0.1, b"[1]")))
    json.dumps(shadow.summary(), allow_nan=False)
    difference: Any = shadow.summary()["difference"]
    assert difference["absolute_max"] is None
