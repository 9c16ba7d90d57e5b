"""Jobs of one place run one after the other; those of others beside each other."""

from __future__ import annotations

import asyncio

import pytest
from fakes.clock import FakeClock, virtual
from fakes.transform import EchoModel, Memory, plan

from hostler.core import Foreground
from hostler.jobs import Config, Hands, Plan, Progress, Start, Summary, Transforms, transforms
from hostler.jobs.transform.plan import Assemble, Naming

SAME = plan(assemble=Assemble.LINE)


class Engine:
    """Two slow jobs at a time, of one model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model = EchoModel(delay=lambda call: 10.0)
        monkeypatch.setattr(transforms, "HostedModel", lambda *args: self.model)
        self.memory = Memory(**{"in/a": b"1", "more/b": b"2"})
        hands = Hands(1, 1 << 20, FakeClock(), Foreground(1))
        self.transforms = Transforms(Config(), None, self.memory, FakeClock(), hands)  # type: ignore[arg-type]

    def start(self, what: Plan, stop: asyncio.Event | None = None) -> asyncio.Task[Summary]:
        run = self.transforms.run(
            what, ["m"], start=Start("model"), progress=Progress(), stop=stop or asyncio.Event()
        )
        return asyncio.create_task(run)


@pytest.mark.parametrize(
    ("other", "busy"),
    [
        (SAME, 1),
        (plan("mem://m/in/", "mem://m/out"), 1),
        (plan("mem://m/more/"), 2),
        (plan(output="mem://m/out2/"), 2),
        (plan(naming=Naming.FOLDER), 2),
    ],
    ids=["same", "slash", "input", "output", "naming"],
)
@virtual
async def test_one_at_a_time_at_one_place(
    monkeypatch: pytest.MonkeyPatch, other: Plan, busy: int
) -> None:
    engine = Engine(monkeypatch)
    done = await asyncio.gather(engine.start(SAME), engine.start(other))
    assert [one.failure for one in done] == ["", ""]
    assert engine.model.busy_max == busy
    assert engine.transforms._places == {}


@virtual
async def test_who_waits_for_a_place_may_be_stopped_or_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, stop = Engine(monkeypatch), asyncio.Event()
    first, stopped, cancelled, last = (
        engine.start(SAME), engine.start(SAME, stop), engine.start(SAME), engine.start(SAME),
    )  # fmt: skip
    await asyncio.sleep(1)
    stop.set()
    cancelled.cancel()
    assert (await stopped).stopped
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not first.done()
    assert [(await one).objects for one in (first, last)] == [1, 1]
    assert len(engine.model.asked) == 2
    assert engine.transforms._places == {}
