import pytest

from hostler.core import CustomMetrics
from hostler.worker import pb_metrics
from hostler.worker import triton_python_backend_utils as pb_utils

COUNTER, GAUGE, HISTOGRAM = pb_utils.MetricKind


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    fresh = pb_metrics.Registry()
    monkeypatch.setattr(pb_metrics, "METRICS", fresh)
    return fresh


def metric(kind, name="n", labels=None, buckets=None):
    return pb_utils.MetricFamily(name, "about", kind).Metric(labels, buckets)


def told(name="n", kind="counter", labels=None, **changes):
    return {"name": name, "help": "about", "kind": kind, "labels": labels or {}, **changes}


def test_a_counter(registry):
    counter = metric(pb_utils.MetricFamily.COUNTER, labels={"a": "b"})
    assert registry.take_changes() == [told(labels={"a": "b"}, add=0.0)]
    counter.increment(2)
    counter.increment(0.5)
    assert counter.value() == 2.5
    assert registry.take_changes() == [told(labels={"a": "b"}, add=2.5)]
    assert registry.take_changes() == []
    counter.increment(1)
    assert counter.value() == 3.5
    assert registry.take_changes() == [told(labels={"a": "b"}, add=1.0)]


def test_a_gauge_is_added_to_until_it_is_set(registry):
    gauge = metric(GAUGE)
    gauge.increment(-2)
    assert registry.take_changes() == [told(kind="gauge", add=-2.0)]
    gauge.set(7)
    gauge.increment(1)
    assert gauge.value() == 8
    assert registry.take_changes() == [told(kind="gauge", set=8.0)]
    gauge.increment(1)
    assert registry.take_changes() == [told(kind="gauge", add=1.0)]


def test_a_histogram(registry):
    histogram = metric(HISTOGRAM, buckets=[1, 2.5])
    for value in (0.5, 1, 2, 100):
        histogram.observe(value)
    changes = told(kind="histogram", bounds=(1.0, 2.5), counts=[2, 1, 1], add=103.5)
    assert registry.take_changes() == [changes]
    histogram.observe(9)
    assert registry.take_changes() == [{**changes, "counts": [0, 0, 1], "add": 9.0}]


def test_the_same_labels_are_the_same_metric(registry):
    metric(COUNTER, labels={"a": "1", "b": "2"}).increment(1)
    metric(COUNTER, labels={"b": "2", "a": "1"}).increment(1)
    metric(COUNTER, labels={"b": "2"}).increment(1)
    assert [change["add"] for change in registry.take_changes()] == [2.0, 1.0]


def test_news_is_told_once_until_it_is_taken(registry):
    rings = []
    registry.on_change = lambda: rings.append(1)
    first, second = metric(COUNTER, "a"), metric(COUNTER, "b")
    first.increment(1)
    second.increment(1)
    assert len(rings) == 1
    registry.take_changes()
    second.increment(1)
    first.increment(1)
    assert len(rings) == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pb_utils.MetricFamily("a b", "", COUNTER), "'a b' is no name"),
        (lambda: pb_utils.MetricFamily("hostler_x", "", COUNTER), "like metrics of the server"),
        (lambda: pb_utils.MetricFamily("n", "", "counter"), "Unsupported kind"),
        (lambda: metric(COUNTER, labels=["a"]), "Labels must be a dictionary"),
        (lambda: metric(COUNTER, labels={"a": 1}), "label 'a': 1"),
        (lambda: metric(COUNTER, labels={"a-b": "x"}), "label 'a-b'"),
        (lambda: metric(COUNTER, labels={"__a": "x"}), "label '__a'"),
        (lambda: metric(COUNTER, labels={"a": "x" * 501}), "label 'a'"),
        (lambda: metric(COUNTER, labels={"a" * 201: "x"}), "label 'aaa"),
        (lambda: metric(COUNTER, labels={f"a{n}": "x" for n in range(33)}), "may have 32 labels"),
        (lambda: metric(COUNTER, name="n" * 201), "is no name"),
        (lambda: metric(GAUGE, buckets=[1.0]), "Unexpected buckets"),
        (lambda: metric(HISTOGRAM), "Missing required buckets"),
        (lambda: metric(HISTOGRAM, buckets=(1,)), "Buckets must be a list"),
        (lambda: metric(HISTOGRAM, buckets=[]), "rising numbers"),
        (lambda: metric(HISTOGRAM, buckets=[1, 1]), "rising numbers"),
        (lambda: metric(HISTOGRAM, buckets=[1, float("inf")]), "rising numbers"),
        (lambda: metric(COUNTER).increment(-1), "only be incremented monotonically"),
        (lambda: metric(COUNTER).set(1), "COUNTER does not support Set"),
        (lambda: metric(COUNTER).observe(1), "COUNTER does not support Observe"),
        (lambda: metric(GAUGE).observe(1), "GAUGE does not support Observe"),
        (lambda: metric(GAUGE).set(float("nan")), "nan is not a finite number"),
        (lambda: metric(COUNTER).increment(float("inf")), "inf is not a finite number"),
        (lambda: metric(HISTOGRAM, buckets=[1]).increment(1), "HISTOGRAM does not support Incr"),
        (lambda: metric(HISTOGRAM, buckets=[1]).set(1), "HISTOGRAM does not support Set"),
        (lambda: metric(HISTOGRAM, buckets=[1]).value(), "HISTOGRAM does not support Value"),
    ],
)
def test_misuse(make, says):
    with pytest.raises(pb_utils.TritonModelException, match=says):
        make()


def test_one_family_of_two_kinds():
    pb_utils.MetricFamily("n", "about", COUNTER)
    pb_utils.MetricFamily("n", "other words", COUNTER)
    with pytest.raises(pb_utils.TritonModelException, match="'n' exists as a counter"):
        pb_utils.MetricFamily("n", "about", GAUGE)


def test_families_and_metrics_are_bounded(monkeypatch):
    monkeypatch.setattr(pb_metrics, "FAMILIES_MAX", 2)
    monkeypatch.setattr(pb_metrics, "SERIES_MAX", 2)
    for name in ("a", "b"):
        pb_utils.MetricFamily(name, "", COUNTER)
    with pytest.raises(pb_utils.TritonModelException, match="2 metric families"):
        pb_utils.MetricFamily("c", "", COUNTER)
    for value in ("1", "2", "1"):
        metric(COUNTER, "a", {"l": value})
    with pytest.raises(pb_utils.TritonModelException, match="'a' may have 2 metrics"):
        metric(COUNTER, "a", {"l": "3"})


def test_the_server_takes_the_longest_names_and_the_most_labels(registry):
    labels = {f"{n:x>200}".replace("0", "y"): "v" * 500 for n in range(32)}
    metric(COUNTER, "n" * 200, labels).increment(1)
    assert CustomMetrics().take(registry.take_changes()) == []
