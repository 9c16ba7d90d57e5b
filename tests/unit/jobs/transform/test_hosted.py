"""The models of a job: pinned while asked, in a pipeline one after another, with low priority."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.clock import FakeClock
from fakes.gateway import FP32, SIGNATURE, FakeLive

from hostler.core import NEVER, Code, Context, HostlerError, InferRequest, Tensor
from hostler.jobs.transform import hosted
from hostler.jobs.transform.bodies import PIECE_BYTES
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.hosted import HostedModel
from hostler.jobs.transform.ports import Payload, Prediction


class Live(FakeLive):
    """Answers with its inputs. `pins_seen`: when it was asked."""

    background_rows = 64

    def __init__(self) -> None:
        super().__init__("m")
        self.signature = replace(SIGNATURE, rows_max=0)
        self.spec = replace(self.spec, signature=self.signature)
        self.lent = 0

    def lend(self) -> None:
        self.lent += 1
        assert self.lent <= self.pins

    def take_back(self) -> None:
        self.lent -= 1
        self.release()


class Serving:
    """Has some models. `asked`: their names, as they were acquired."""

    def __init__(self, **models: FakeLive) -> None:
        self.models = {name.replace("_", "/"): live for name, live in models.items()}
        self.asked: list[tuple[str, bool]] = []

    async def acquire(self, name: str, version: int | None, context: Context) -> Any:
        assert version is None
        return self._find(name, context, hosted=False)

    async def acquire_hosted(self, name: str, context: Context) -> Any:
        return self._find(name, context, hosted=True)

    def _find(self, name: str, context: Context, *, hosted: bool) -> FakeLive:
        assert context.background
        self.asked.append((name, hosted))
        live = self.models[name]
        live.pin()
        return live


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1, 1 << 20, FakeClock())
    yield hands
    hands.close()


def model(hands: Hands, *stages: str, **models: FakeLive) -> tuple[HostedModel, Serving]:
    serving = Serving(**models)
    return HostedModel(serving, stages, hands, FakeClock(), "alice"), serving  # type: ignore[arg-type]


async def test_each_payload_has_its_answer_and_no_pin_stays(hands: Hands) -> None:
    live = Live()
    asked, serving = model(hands, "m", m=live)
    found = await asked.ask([Payload(b"1,2\n", "text/csv", ""), Payload(b"x", "text/csv", "")], 9.0)
    assert found[0] == Prediction(b"1.0,2.0\n", "text/csv")
    assert isinstance(found[1], HostlerError)
    assert found[1].code is Code.MODEL_ERROR
    assert (live.pins, serving.asked) == (0, [("m", False)])
    context = live.requests[0].context
    assert (context.background, context.principal) == (True, "alice")
    assert (context.deadline, context.run_timeout_s) == (NEVER, 9.0)


async def test_stages_follow_each_other_and_only_the_last_minds_accept(hands: Hands) -> None:
    asked, serving = model(hands, "j/0", "j/1", j_0=Live(), j_1=Live())
    payloads = [
        Payload(b"1,2\n", "text/csv", "application/jsonlines"),
        Payload(b"?", "text/csv", ""),
    ]
    found = await asked.ask(payloads, 9.0)
    assert found[0] == Prediction(b"[1.0,2.0]\n", "application/jsonlines")
    assert isinstance(found[1], HostlerError)
    assert serving.asked == [("j/0", True), ("j/1", True)]
    assert [len(live.requests) for live in serving.models.values()] == [1, 1]


async def test_a_stage_that_nobody_reaches_is_not_asked(hands: Hands) -> None:
    asked, serving = model(hands, "j/0", "j/1", j_0=Live(), j_1=Live())
    assert isinstance((await asked.ask([Payload(b"?", "text/csv", "")], 9.0))[0], HostlerError)
    assert serving.asked == [("j/0", True)]


async def test_a_long_body_is_asked_in_pieces(hands: Hands) -> None:
    live = Live()
    asked, _ = model(hands, "m", m=live)
    body = b"1.0,2.0\n" * (PIECE_BYTES // 4)
    [found] = await asked.ask([Payload(body, "text/csv", "", PIECE_BYTES // 4)], 9.0)
    assert found == Prediction(body, "text/csv")
    assert len(live.requests) > 1


async def test_tensors_are_asked_as_they_are(hands: Hands) -> None:
    asked, _ = model(hands, "m", m=Live())
    assert await asked.signature() is not None
    data = np.ones((2, 2), np.float32)
    request = InferRequest({"X": Tensor("X", FP32, data.shape, data)})
    [found] = await asked.infer([request], 9.0)
    assert not isinstance(found, HostlerError)
    assert request.context.background


async def test_a_pipeline_takes_no_tensors(hands: Hands) -> None:
    asked, _ = model(hands, "j/0", "j/1", j_0=Live(), j_1=Live())
    with pytest.raises(HostlerError, match="pipeline"):
        await asked.infer([], 9.0)


async def test_decoded_bodies_are_bounded(hands: Hands) -> None:
    """A second group waits while the first one's tensors may take all the room there is."""
    live = Live()
    live.hold = True
    hands.decoded_bytes_max = 100
    asked, _ = model(hands, "m", m=live)
    body = Payload(b"1,2\n" * 20, "text/csv", "", 20)  # four bytes of tensors for each
    first = asyncio.create_task(asked.ask([body], 9.0))
    second = asyncio.create_task(asked.ask([body], 9.0))
    async with asyncio.timeout(10):
        while not live.waiting:  # noqa: ASYNC110 - a thread makes the tensors
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(live.waiting) == 1
    live.hold = False
    live.let_go()
    assert all(isinstance(one, Prediction) for one in [*await first, *await second])


class Full(Serving):
    """Has no memory for a model, at first."""

    def __init__(self, errors: list[HostlerError], **models: FakeLive) -> None:
        super().__init__(**models)
        self.errors = errors

    async def acquire(self, name: str, version: int | None, context: Context) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return await super().acquire(name, version, context)


def short(**details: int) -> HostlerError:
    return HostlerError(Code.RESOURCE_EXHAUSTED, "no memory", details=details, retry_after_s=1.0)


async def test_memory_is_waited_for_while_others_are_busy_in_it(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "_ROOM_S", 0.0)
    live = Live()
    serving = Full([short(busy_models=1)] * 3, m=live)
    asked = HostedModel(serving, ("m",), hands, FakeClock(), None)  # type: ignore[arg-type]
    payload = Payload(b"1,2\n", "text/csv", "")
    assert await asked.ask([payload], 9.0) == [Prediction(b"1.0,2.0\n", "text/csv")]
    assert live.pins == 0
    serving.errors = [short(busy_models=0)]
    with pytest.raises(HostlerError, match="no memory"):
        await asked.ask([payload], 9.0)
