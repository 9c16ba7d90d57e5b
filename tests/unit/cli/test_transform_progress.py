"""The line of progress, and the line at the end."""

from __future__ import annotations

import pytest

from hostler.cli.transform_progress import counted, failures, line_of
from hostler.jobs import Outcome, Progress, Summary


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (
            Progress(objects_total=10, objects_done=2, records=50),
            "2/10+ objects, 50 records, 5/s",
        ),
        (
            Progress(
                listed=True, objects_total=10, objects_done=5, records=1000, bytes_total=100,
                bytes_done=50,
            ),
            "5/10 objects, 1,000 records, 100/s, 10s left",
        ),
        (
            Progress(
                listed=True, objects_total=10, objects_done=6, objects_before=5, objects_failed=1,
                skipped=2, records=10, bytes_total=1000, bytes_done=505, bytes_before=500,
            ),
            "6/10 objects, 10 records, 1/s, 5 done before, 2 set aside, 1 failed, 16m30s left",
        ),
    ],
    ids=["listing", "listed", "resumed"],
)  # fmt: skip
def test_the_line_tells_how_far_a_job_is(progress: Progress, said: str) -> None:
    assert line_of(progress, 10.0) == said


def test_nothing_is_promised_before_anything_is_known() -> None:
    assert "left" not in line_of(Progress(objects_total=3, listed=True, bytes_total=9), 5.0)


def test_the_outcome_is_one_line() -> None:
    said = counted(Summary(objects=3, before=1, failed=2, records=40, skipped=5), 2.0)
    assert said == (
        "3 objects, 40 records in 2 s (20/s); 1 of the objects done before; 5 records set "
        "aside; 2 objects failed."
    )


def test_many_failures_of_one_reason_are_one_line() -> None:
    outcomes = tuple(
        Outcome(key=f"o/{name}.out", error=f"{name}: {why}")
        for name, why in (("a", "bad"), ("b", "worse: much"), ("c", "bad"), ("d", "bad"))
    )
    assert failures(Summary(failed=4, failures=outcomes)) == [
        "a: bad (and 2 more in the same way)",
        "b: worse: much",
    ]


def test_one_of_anything_is_one() -> None:
    assert counted(Summary(objects=1, records=1), 1.0) == "1 object, 1 record in 1 s (1/s)."
