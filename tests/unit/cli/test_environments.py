"""`hostler environments`: what is in the cache, and removing it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

KEYS = ["a" * 32, "b" * 32]
DAY_S = 86400.0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """One environment of 40 days ago, and one that was never finished."""
    folder = tmp_path / "cache"
    record = folder / KEYS[0] / "hostler-environment.json"
    record.parent.mkdir(parents=True)
    content = {"kind": "requirements", "python": "3.11.7", "content": ["a==1", "b" * 200]}
    record.write_text(json.dumps({**content, "size_bytes": 5 << 20, "created": 1.0}))
    used = time.time() - 40 * DAY_S
    os.utime(record, (used, used))
    (folder / KEYS[1]).mkdir()
    return folder


@pytest.fixture
def environments(run: Any, cache: Path) -> Any:
    setting = f"repository.environments_dir={cache}"
    return lambda *words: run("environments", *words, "--set", setting)


def test_the_table(environments: Any) -> None:
    _, unfinished, whole = [line.split() for line in environments().out.splitlines()]
    assert whole[:8] == ["a" * 12, "requirements", "3.11.7", "5", "MiB", "40.0", "no", "a==1,"]
    assert whole[-1].endswith("...")
    assert unfinished[0] == "b" * 12
    assert "unfinished" in unfinished[-4]


def test_as_json(environments: Any) -> None:
    rows = json.loads(environments("--json").out)
    assert [row["environment"] for row in rows] == [KEYS[1], KEYS[0]]
    assert rows[1]["content"][0] == "a==1"
    assert rows[1]["size_bytes"] == 5 << 20
    assert rows[0]["kind"] is None


@pytest.mark.parametrize(
    ("words", "left"),
    [(("--unused-days", "41"), KEYS[:1]), (("--unused-days", "39"), []), (("--all",), [])],
    ids=["41", "39", "all"],
)
def test_pruning(environments: Any, cache: Path, words: tuple[str, ...], left: list[str]) -> None:
    ran = environments("prune", *words)
    assert ran.code == 0
    assert [path.name for path in cache.iterdir() if path.is_dir()] == left
    assert ran.out.startswith(f"removed {2 - len(left)} environments")


@pytest.mark.parametrize(
    ("words", "error"),
    [(("prune",), "--unused-days N, or --all"), (("--all",), "prune"), (("drop",), "drop")],
)
def test_misuse(environments: Any, words: tuple[str, ...], error: str) -> None:
    ran = environments(*words)
    assert ran.code == 2
    assert error in ran.error


def test_none_yet(run: Any, tmp_path: Path) -> None:
    ran = run("environments", "--set", f"repository.environments_dir={tmp_path / 'none'}")
    assert ran.code == 0
    assert "No environments" in ran.error
