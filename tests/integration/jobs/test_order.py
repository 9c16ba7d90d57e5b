"""Answers stand in the order of the input, however long each of them takes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fakes.transform_jobs import Files, Job, sleeping_model, write_lines


def rows_of(draw: random.Random, index: int) -> list[str]:
    """From none to hundreds, each another one, of many lengths."""
    count = draw.choice([0, 1, 2, 7, 40, draw.randrange(300)])
    return [
        f"{index},{row},{draw.randrange(100)},0.{'0' * draw.choice([1, 1, 9, 200])}"
        for row in range(count)
    ]


@pytest.mark.parametrize(
    "flags",
    [
        ("--strategy", "MultiRecord", "--max-payload", "600B"),
        ("--strategy", "SingleRecord"),
        ("--strategy", "MultiRecord", "--max-payload", "2KB", "--concurrency", "5"),
    ],
    ids=["multi", "single", "five-at-a-time"],
)
def test_order_with_many_objects_in_flight(tmp_path: Path, flags: tuple[str, ...]) -> None:
    draw = random.Random(" ".join(flags))
    objects = {f"{index:02}.csv": rows_of(draw, index) for index in range(24)}
    for name, rows in objects.items():
        write_lines(tmp_path / "in" / name, rows)
    model = sleeping_model(tmp_path, 0.002, instances=3)
    found = Job(model, tmp_path / "in", tmp_path / "out", flags).run()
    assert found.code == 0, found
    assert found.told["records"] == sum(map(len, objects.values())) > 500
    outputs = Files(tmp_path / "out").look().files
    assert set(outputs) == {f"{name}.out" for name in objects}
    for name, rows in objects.items():
        answers = [line.split(",") for line in outputs[f"{name}.out"].decode().splitlines()]
        expected = [[str(2.0 * float(x)) for x in row.split(",")] for row in rows]
        assert answers == expected, name
