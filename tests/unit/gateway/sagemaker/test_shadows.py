"""Shadows: copies are asked aside, compared, counted, and never in the way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.variants import Case, FakeEndpoint, FakeVariant, HandlerLive

from hostler.core import Code, HostlerError
from hostler.serving import ShadowPlan, StagePlan, VariantPlan


class FakeShadow:
    """Wants every `every`-th request of `of`; keeps what came of them."""

    def __init__(self, variant: FakeVariant, of: str = "v", every: int = 1) -> None:
        self.variant = variant
        self.plan = ShadowPlan(VariantPlan(variant.name, ()), 1.0)
        self._of, self._every, self._seen = of, every, 0
        self.records: list[Any] = []
        self.recorded = asyncio.Event()

    def wants(self, variant: FakeVariant) -> bool:
        self._seen += 1
        return variant.name == self._of and not self._seen % self._every

    def record(self, comparison: Any) -> None:
        self.records.append(comparison)
        self.recorded.set()


def shadowed(shadow: FakeVariant, **settings: Any) -> tuple[Case, FakeVariant, FakeShadow]:
    variant = FakeVariant("v", [HandlerLive("m")])
    endpoint = FakeEndpoint("e", variant)
    found = FakeShadow(shadow)
    endpoint.shadows = (found,)
    return Case(endpoint, **settings), variant, found


async def test_a_copy_is_compared() -> None:
    live = HandlerLive("s", lambda body, told: (b"2,3", {"content_type": "text/csv"}))
    copy = FakeVariant("s", [live])
    case, variant, shadow = shadowed(copy)
    variant.lives[0].reply = lambda body, told: (b"2,4", {"content_type": "text/csv"})
    answered = await case.invoke("e", b"x", accept="text/csv")
    assert answered.body == b"2,4"
    await shadow.recorded.wait()
    [comparison] = shadow.records
    assert (comparison.primary.body, comparison.shadow.body) == (b"2,4", b"2,3")
    assert comparison.difference.absolute_max == 1.0
    assert live.asked == variant.lives[0].asked
    assert (copy.codes, variant.codes) == ([None], [None])
    copy.check()
    variant.check()


async def test_an_answer_does_not_wait_for_its_copy() -> None:
    copy = FakeVariant("s", [HandlerLive("s")])
    copy.cold, copy.gate = True, asyncio.Event()
    case, variant, shadow = shadowed(copy)
    assert (await case.invoke("e")).status == 200
    await asyncio.sleep(0)
    assert (copy.begun, copy.ended, shadow.records) == (1, [], [])
    copy.gate.set()
    await shadow.recorded.wait()
    assert copy.contexts[0].deadline == 160.0
    copy.check()
    variant.check()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostlerError(Code.MODEL_ERROR, "no"), Code.MODEL_ERROR),
        (RuntimeError("a bug"), Code.INTERNAL),
    ],
)
@pytest.mark.parametrize("where", ["infer", "acquire"])
async def test_failures_of_a_copy_are_recorded(where: str, error: Exception, code: Code) -> None:
    copy = FakeVariant("s", [HandlerLive("s")])
    if where == "infer":
        copy.lives[0].error = error
    else:
        copy.cold, copy.refusal = True, error
    case, variant, shadow = shadowed(copy)
    assert (await case.invoke("e")).body == b"m(1)"
    await shadow.recorded.wait()
    [comparison] = shadow.records
    assert comparison.shadow.error.code is code
    assert comparison.primary.error is None
    assert copy.codes == [code]
    copy.check()
    variant.check()


async def test_failures_of_the_variant_are_not_copied() -> None:
    copy = FakeVariant("s", [HandlerLive("s")])
    case, variant, shadow = shadowed(copy)
    variant.lives[0].error = HostlerError(Code.MODEL_ERROR, "no")
    assert (await case.invoke("e")).status == 424
    assert (copy.begun, shadow.records) == (0, [])


async def test_a_full_shadow_is_left_out() -> None:
    copy = FakeVariant("s", [HandlerLive("s")])
    copy.full = True
    case, variant, shadow = shadowed(copy)
    assert (await case.invoke("e")).status == 200
    await asyncio.sleep(0)
    assert (copy.ended, shadow.records) == ([], [])
    variant.check()


async def test_so_many_copies_and_no_more() -> None:
    copy = FakeVariant("s", [HandlerLive("s")])
    copy.cold, copy.gate = True, asyncio.Event()
    case, _, shadow = shadowed(copy, shadow_requests_max=2)
    for _ in range(5):
        assert (await case.invoke("e")).status == 200
    await asyncio.sleep(0)
    assert copy.begun == 2
    copy.gate.set()
    while len(shadow.records) < 2:
        shadow.recorded.clear()
        await shadow.recorded.wait()
    await asyncio.sleep(0)
    assert (await case.invoke("e")).status == 200
    await asyncio.sleep(0)
    assert copy.begun == 3


async def test_only_what_a_shadow_wants() -> None:
    copy = FakeVariant("s", [HandlerLive("s")])
    variant, other = FakeVariant("v", [HandlerLive("m")]), FakeVariant("w", [HandlerLive("n")])
    endpoint = FakeEndpoint("e", variant, other)
    endpoint.shadows = (FakeShadow(copy),)
    case = Case(endpoint)
    await case.invoke("e", target_variant="w")
    assert copy.begun == 0
    await case.invoke("e", target_variant="v")
    await endpoint.shadows[0].recorded.wait()
    copy.check()


async def test_a_pipeline_as_a_shadow() -> None:
    first = HandlerLive("a", lambda body, told: (b"a(%s)" % body, {"content_type": "x/a"}))
    copy = FakeVariant("s", [first, HandlerLive("b")])
    case, _, shadow = shadowed(copy)
    await case.invoke("e", b"x", accept="y/y")
    await shadow.recorded.wait()
    assert shadow.records[0].shadow.body == b"b(a(x))"
    assert first.asked[0][1]["accept"] == ""
    assert copy.lives[1].asked[0][1] == {"content_type": "x/a", "accept": "y/y"}  # type: ignore[attr-defined]
    copy.check()


async def test_targets_and_named_containers() -> None:
    stages = [StagePlan("one", "a"), StagePlan("two", "b")]
    copy = FakeVariant("s", [HandlerLive("a"), HandlerLive("b")], stages=stages, direct=True)
    case, variant, shadow = shadowed(copy)
    variant.plan = VariantPlan("v", (StagePlan("two", "m"),), direct=True)
    await case.invoke("e", b"x", target_container_hostname="two")
    await shadow.recorded.wait()
    assert shadow.records[0].shadow.body == b"b(x)"
    copy.plan = VariantPlan("s", tuple(stages[:1]), direct=True)
    shadow.recorded.clear()
    await case.invoke("e", b"x", target_container_hostname="two")
    await shadow.recorded.wait()
    assert shadow.records[1].shadow.error.code is Code.INVALID_ARGUMENT
    many: Any = SimpleNamespace()
    copy.plan = VariantPlan("s", (StagePlan(archives=many), stages[1]))
    variant.plan = VariantPlan("v", (StagePlan(archives=many),))
    shadow.recorded.clear()
    copy.targets.clear()
    await case.invoke("e", b"x", target_model="t")
    await shadow.recorded.wait()
    assert copy.targets == [(0, "t"), (1, "")]
    copy.check()
