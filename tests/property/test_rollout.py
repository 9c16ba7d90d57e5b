"""An endpoint updated, resized, rolled back, deleted and killed at any step, in any order."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from hostler.control import rollout
from hostler.control.plans import endpoint_plan
from hostler.control.reconcile import (
    Action,
    Cohort,
    Forget,
    Health,
    Route,
    Seen,
    Start,
    State,
    Stop,
    actions,
    cohorts,
    fleet_health,
    usable,
)
from hostler.control.records import Document, EndpointRecord, FleetRecord, VariantRecord
from hostler.control.stages import STATUS, Event, Stage, may, stage_of
from hostler.serving import EndpointPlan, StagePlan

TURNS_MAX = 400
SIZES = {"Type": "CAPACITY_PERCENT", "Value": 25}
DEPLOYMENTS: list[Document | None] = [
    None,
    {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "WaitIntervalInSeconds": 60,
                "CanarySize": SIZES,
            },
            "TerminationWaitInSeconds": 30,
            "MaximumExecutionTimeoutInSeconds": 600,
        }
    },
    {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "LINEAR",
                "WaitIntervalInSeconds": 20,
                "LinearStepSize": {"Type": "INSTANCE_COUNT", "Value": 1},
            },
        }
    },
    {"RollingUpdatePolicy": {"MaximumBatchSize": SIZES, "WaitIntervalInSeconds": 0}},
]


def fleet(config: str, instances: int, shadow: bool) -> FleetRecord:
    def variant(name: str) -> VariantRecord:
        return VariantRecord(name=name, definition={}, containers=(), instances=instances)

    shadows = (variant("S"),) if shadow else ()
    variants = (variant("A"), variant("B"))
    return FleetRecord(generation=0, config_name=config, variants=variants, shadows=shadows)


class Endpoint(RuleBasedStateMachine):
    """Promises: shares sum to 1 and healthy fleets alone get traffic; what serves is never stopped,
    and nothing is while it could be needed to serve; a record that is read after a crash at any
    step leads on; in the end the endpoint is in service, failed or gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.configs = 1
        self.alarms: tuple[str, ...] = ()
        self.record: EndpointRecord | None = rollout.create(
            "e", "arn", fleet("c1", 2, False), self.now
        )
        self.running: dict[Cohort, Health] = {}
        self.plan: EndpointPlan | None = None

    @initialize(how_far=st.integers(0, 4), deployment=st.sampled_from(DEPLOYMENTS))
    def begins(self, how_far: int, deployment: Document | None) -> None:
        """Mostly in the middle of an update, where there is most to get wrong."""
        for step in range(how_far):
            if step == 1:
                self.update(deployment, 2, False)
            self.flows()

    # -- the world ---------------------------------------------------------------------------

    @property
    def seen(self) -> Seen:
        watched = self.record is not None and stage_of(self.record) in (
            Stage.SHIFTING,
            Stage.BAKING,
        )
        return Seen(dict(self.running), self.alarms if watched else ())

    def write(self, record: EndpointRecord) -> None:
        assert msgspec.convert(msgspec.to_builtins(record), EndpointRecord) == record
        self.record = record

    def turn(self, crash: bool = False) -> bool:
        """Whether the record has changed. `crash`: right after it was written."""
        if self.record is None:
            return False
        before = self.record
        after, _ = rollout.step(before, self.seen, self.now)
        if after != before:
            self.write(after)
        if crash:
            self.crash()
            return True
        self.act(after, actions(after, self.seen, self.now))
        return after != before

    def act(self, record: EndpointRecord, todo: tuple[Action, ...]) -> None:
        for action in todo:
            match action:
                case Start(cohort, _):
                    found = self.running.get(cohort)
                    assert found is None or found.state is State.FAILED
                    self.running[cohort] = Health(State.STARTING)
                case Route(None):
                    self.plan = None
                case Route(shares):
                    assert shares is not None
                    self.check_shares(record, dict(shares))
                    self.plan = endpoint_plan(record, shares, self.stages())
                case Stop(cohort):
                    self.check_stop(record, cohort)
                    self.running[cohort] = Health(State.STOPPING)
                case Forget():
                    assert not self.running
                    assert self.plan is None
                    self.record = None

    def stages(self) -> dict[Cohort, tuple[StagePlan, ...]]:
        ready = [c for c, health in self.running.items() if health.state is State.READY]
        return {cohort: (StagePlan(model=f"{cohort.number}/{cohort.variant}"),) for cohort in ready}

    def check_shares(self, record: EndpointRecord, shares: dict[int, float]) -> None:
        assert not shares or abs(sum(shares.values()) - 1) < 1e-9
        assert all(share > 0 for share in shares.values())
        assert record.current is not None
        for generation in shares:
            if generation == record.current.generation:
                assert usable(record.current, self.seen)
            else:
                assert record.target is not None
                assert record.target.generation == generation
                assert fleet_health(record.target, self.seen).state is State.READY
        if usable(record.current, self.seen):
            assert shares, "it could serve"

    def check_stop(self, record: EndpointRecord, cohort: Cohort) -> None:
        used = self.plan.fleets if self.plan is not None else ()
        models = {s.model for f in used for v in f.variants for s in v.stages}
        assert f"{cohort.number}/{cohort.variant}" not in models
        if stage_of(record) not in (Stage.DELETING, Stage.FAILED):
            assert cohort not in cohorts(record.current)
            if stage_of(record) is Stage.IN_SERVICE and record.current is not None:
                shares = {f.generation: f.share for f in used}
                assert shares in ({record.current.generation: 1.0}, {})

    # -- what clients do -----------------------------------------------------------------------

    @precondition(lambda self: self.record is not None and may(self.record, Event.UPDATE))
    @rule(
        deployment=st.sampled_from(DEPLOYMENTS),
        instances=st.integers(0, 4),
        shadow=st.booleans(),
    )
    def update(self, deployment: Document | None, instances: int, shadow: bool) -> None:
        assert self.record is not None
        self.configs += 1
        new = fleet(f"c{self.configs}", instances, shadow)
        self.write(rollout.update(self.record, new, deployment, self.now))

    @precondition(lambda self: self.record is not None and may(self.record, Event.RESIZE))
    @rule(weight=st.sampled_from([None, 0.0, 3.0]), instances=st.sampled_from([None, 0, 1, 2, 3]))
    def resize(self, weight: float | None, instances: int | None) -> None:
        assert self.record is not None
        sizes = {"A": rollout.Size(weight, instances)}
        self.write(rollout.resize(self.record, sizes, self.now))

    @precondition(lambda self: self.record is not None)
    @rule(sure=st.integers(0, 12))
    def delete(self, sure: int) -> None:
        assert self.record is not None
        if sure == 0:
            self.write(rollout.delete(self.record, self.now))

    # -- what happens --------------------------------------------------------------------------

    def some(self, state: State, pick: int) -> Cohort | None:
        found = sorted(c for c, health in self.running.items() if health.state is state)
        return found[pick % len(found)] if found else None

    @rule(pick=st.integers(0, 5))
    def comes_up(self, pick: int) -> None:
        cohort = self.some(State.STARTING, pick)
        if cohort is not None:
            self.running[cohort] = Health(State.READY)

    @rule()
    def flows(self) -> None:
        """All goes as it should for a moment."""
        self.settles()
        self.comes()
        self.settles()

    def comes(self) -> None:
        for cohort, health in list(self.running.items()):
            if health.state is State.STARTING:
                self.running[cohort] = Health(State.READY)
            elif health.state is State.STOPPING:
                del self.running[cohort]

    @precondition(lambda self: self.record is not None and self.record.status != "Creating")
    @rule(pick=st.integers(0, 5))
    def fails(self, pick: int) -> None:
        self.fail(pick)

    @precondition(lambda self: self.record is not None and self.record.status == "Creating")
    @rule(pick=st.integers(0, 5), sure=st.integers(0, 4))
    def fails_at_first(self, pick: int, sure: int) -> None:
        if sure == 0:
            self.fail(pick)

    def fail(self, pick: int) -> None:
        cohort = self.some(State.STARTING, pick)
        if cohort is not None:
            self.running[cohort] = Health(State.FAILED, "no such archive", self.now + 5)

    @rule(pick=st.integers(0, 5))
    def goes(self, pick: int) -> None:
        cohort = self.some(State.STOPPING, pick)
        if cohort is not None:
            del self.running[cohort]

    @rule(fires=st.integers(0, 3))
    def alarm(self, fires: int) -> None:
        self.alarms = ("error_rate > 5%",) if fires == 0 else ()

    @rule(seconds=st.sampled_from([0.5, 25.0, 61.0, 1000.0]))
    def waits(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def turns(self) -> None:
        self.turn()

    @rule()
    def settles(self) -> None:
        for _ in range(TURNS_MAX):
            if not self.turn():
                return
        raise AssertionError("the record never comes to rest")

    @rule()
    def crash(self) -> None:
        self.running.clear()
        self.plan = None

    @rule()
    def crash_before_acting(self) -> None:
        self.turn(crash=True)

    # -- what holds ------------------------------------------------------------------------------

    @invariant()
    def status_and_phase_agree(self) -> None:
        if self.record is not None:
            assert STATUS[stage_of(self.record)] == self.record.status
            assert len(self.record.failure_reason) <= 1024

    def teardown(self) -> None:
        """Left alone, with models that can be loaded, it comes to an end."""
        self.alarms = ()
        for _ in range(TURNS_MAX):
            if self.turn():
                continue
            self.comes()
            at = self.now if self.record is None else rollout.due(self.record, self.seen, self.now)
            self.now = max(self.now + 0.1, min(at, self.now + 10_000))
        if self.record is None:
            assert not self.running
            assert self.plan is None
            return
        assert self.record.status in ("InService", "Failed")
        assert self.record.rollout is None
        assert self.running.keys() == (
            cohorts(self.record.current).keys() if self.record.status == "InService" else set()
        )


Endpoint.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestEndpoint = Endpoint.TestCase
