"""What a model counts is what a scrape shows, however it travels."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hostler.core import CustomMetrics
from hostler.worker.pb_metrics import MetricKind, Registry

BOUNDS = (-1.0, 0.0, 5.0)
KINDS = {"c": MetricKind.COUNTER, "g": MetricKind.GAUGE, "h": MetricKind.HISTOGRAM}
# Whole numbers: sums of floats depend on their order.
NUMBERS = st.integers(-(10**6), 10**6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("cg"), st.sampled_from("xy"), NUMBERS),
        st.tuples(st.just("set"), st.just("g"), st.sampled_from("xy"), NUMBERS),
        st.tuples(st.just("observe"), st.just("h"), st.sampled_from("xy"), NUMBERS),
        st.tuples(st.just("flush"), st.just(""), st.just(""), st.just(0)),
        st.tuples(st.just("restart"), st.just(""), st.just(""), st.just(0)),
    ),
    max_size=40,
)


def expected(steps):
    values, counts = {}, {}
    for what, name, label, number in steps:
        key = (name, label)
        if what == "add":
            values[key] = values.get(key, 0) + (abs(number) if name == "c" else number)
        elif what == "set":
            values[key] = number
        elif what == "observe":
            values[key] = values.get(key, 0) + number
            bucket = next((i for i, b in enumerate(BOUNDS) if number <= b), len(BOUNDS))
            counts.setdefault(key, [0] * (len(BOUNDS) + 1))[bucket] += 1
    return values, counts


@given(STEPS)
def test_the_server_knows_what_its_workers_counted(steps):
    server, registry = CustomMetrics(), Registry()

    def flush():
        assert server.take(registry.take_changes()) == []

    for what, name, label, number in steps:
        if what in ("flush", "restart"):
            flush()
            if what == "restart":
                registry = Registry()
            continue
        kind = KINDS[name]
        bounds = BOUNDS if kind is MetricKind.HISTOGRAM else ()
        family = registry.family(name, "", kind)
        series = registry.series(family, {"l": label}, bounds)
        value = abs(number) if name == "c" else number
        {"add": registry.add, "set": registry.set, "observe": registry.observe}[what](series, value)
    flush()
    values, counts = expected(steps)
    shown = {
        (family.name, dict(labels)["l"]): series
        for family in server.families()
        for labels, series in family.series.items()
    }
    assert {key: series.value for key, series in shown.items()} == values
    assert {key: series.counts for key, series in shown.items() if key[0] == "h"} == counts
    assert all(math.isfinite(series.value) for series in shown.values())
