import pytest

from hostler.core import CustomMetrics


def change(name="n", kind="counter", labels=None, **changes):
    return {"name": name, "kind": kind, "help": "about", "labels": labels or {}, **changes}


def shown(metrics):
    return {
        (family.name, labels): (series.value, series.counts)
        for family in metrics.families()
        for labels, series in family.series.items()
    }


def test_what_workers_send_is_added_up():
    metrics = CustomMetrics()
    for _ in range(2):  # two workers, or one and its successor
        assert metrics.take([change(add=2.5), change(labels={"b": "x", "a": "y"}, add=1)]) == []
    assert metrics.take([change("g", "gauge", add=5), change("g", "gauge", set=2)]) == []
    assert metrics.take([change("g", "gauge", add=-3.0)]) == []
    histogram = {"bounds": [1.0, 2.0], "counts": [1, 0, 2], "add": 7.5}
    for _ in range(2):
        assert metrics.take([change("h", "histogram", **histogram)]) == []
    assert shown(metrics) == {
        ("n", ()): (5.0, [0]),
        ("n", (("a", "y"), ("b", "x"))): (2.0, [0]),
        ("g", ()): (-1.0, [0]),
        ("h", ()): (15.0, [2, 0, 4]),
    }
    assert [family.name for family in metrics.families()] == ["g", "h", "n"]


def test_what_contradicts_is_left_out_and_said_once():
    metrics = CustomMetrics()
    metrics.take([change(add=1)])
    metrics.take([change("h", "histogram", bounds=[1], counts=[0, 0], add=0)])
    other = [
        change(kind="gauge", set=1),
        change("h", "histogram", bounds=[2], counts=[1, 1], add=1),
    ]
    assert metrics.take(other) == [
        ("n", "there is a counter of this name"),
        ("h", "there is a histogram of this name with other buckets"),
    ]
    assert metrics.take(other) == []
    assert shown(metrics) == {("n", ()): (1.0, [0]), ("h", ()): (0.0, [0, 0])}


def test_families_and_label_sets_are_bounded():
    metrics = CustomMetrics(families_max=2, series_max=2)
    many = [change(labels={"l": str(n)}, add=1) for n in range(5)]
    assert metrics.take(many) == [("n", "it has 2 label sets")]
    assert metrics.take([change("b", add=1), change("c", add=1)]) == [("c", "there are 2 families")]
    assert metrics.take([change("d", add=1)]) == []  # what is said is bounded too
    assert len(shown(metrics)) == 3
    assert metrics.take(many[:2]) == []
    assert metrics.families()[1].series[(("l", "0"),)].value == 2.0


@pytest.mark.parametrize(
    "bad",
    [
        change("a b", add=1),
        change("hostler_x", add=1),
        change("process_x", add=1),
        change("x" * 300, add=1),
        change(kind="summary", add=1),
        change(add=float("nan")),
        change(add="much"),
        change(),
        change(labels={"a-b": "x"}, add=1),
        change(labels={"a": "x" * 501}, add=1),
        change(labels={"a": 5}, add=1),
        change(labels={f"l{n}": "" for n in range(40)}, add=1),
        change(kind="histogram", bounds=[1], counts=[1], add=1),
        change(kind="histogram", bounds=[float("inf")], counts=[1, 1], add=1),
        change(kind="histogram", bounds=list(range(300)), counts=[0] * 301, add=1),
        {"name": "n"},
    ],
)
def test_what_makes_no_sense(bad):
    with pytest.raises((ValueError, KeyError, TypeError)):
        CustomMetrics().take([bad])
