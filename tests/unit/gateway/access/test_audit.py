"""The audit log: whole lines, in order, wherever its file goes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway import FakeClock

from hostler.core import HostlerError
from hostler.gateway.access.audit import Audit


def audit_to(path: Path, **limits: int) -> Audit:
    given = {"lines_max": 1000, "bytes_max": 0, **limits}
    audit = Audit(path, FakeClock(), **given)
    audit.start()
    return audit


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_json_in_order(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"old": 1}\n')
    audit = audit_to(path)
    for number in range(600):
        audit.write({"outcome": "done", "resource": f"model/{number}"})
    audit.write({"resource": "lone \ud800 surrogate"})
    audit.stop()
    audit.stop()
    lines = lines_of(path)
    assert lines[0] == {"old": 1}
    assert lines[1]["time"] == "2023-11-14T22:15:00.000+00:00"
    assert [line["resource"] for line in lines[1:601]] == [f"model/{n}" for n in range(600)]
    assert lines[601]["resource"] == "lone ? surrogate"


def test_its_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit_to(path).stop()
    assert path.stat().st_mode & 0o777 == 0o600


class Slow(Audit):
    """Writes when it is let, and says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, FakeClock(), lines_max=2, bytes_max=0)
        self.let = threading.Event()
        self.wrote = threading.Semaphore(0)
        self.start()

    def _append(self, lines: list[bytes]) -> None:
        self.let.wait(10)
        super()._append(lines)
        self.wrote.release()


def test_what_is_too_much_is_dropped_counted_and_said(tmp_path: Path) -> None:
    audit = Slow(tmp_path / "audit.jsonl")
    for _ in range(50):
        audit.write({"outcome": "done"})
    assert audit.dropped >= 40
    audit.let.set()
    audit.stop()
    lines = lines_of(tmp_path / "audit.jsonl")
    said = [int(line["reason"]) for line in lines if line["outcome"] == "dropped"]
    assert sum(said) == audit.dropped
    assert len(lines) - len(said) + audit.dropped == 50


def written(audit: Slow, **line: str) -> None:
    """Write a line and wait until it is in the file."""
    audit.write(line)
    assert audit.wrote.acquire(timeout=10)


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Slow(path)
    audit.let.set()
    written(audit, n="1")
    path.rename(tmp_path / "audit.jsonl.old")
    written(audit, n="2")
    path.unlink()
    written(audit, n="3")
    audit.stop()
    assert [line["n"] for line in lines_of(tmp_path / "audit.jsonl.old")] == ["1"]
    assert [line["n"] for line in lines_of(path)] == ["3"]


def test_a_full_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("x" * 100)
    audit = audit_to(path, bytes_max=100)
    audit.write({"n": "1"})
    audit.stop()
    assert (tmp_path / "audit.jsonl.1").read_text() == "x" * 100
    assert [line["n"] for line in lines_of(path)] == ["1"]


def test_a_disk_that_fails_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    audit = Slow(folder / "audit.jsonl")
    audit.let.set()
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    written(audit, n="1")
    written(audit, n="2")
    folder.mkdir()
    written(audit, n="3")
    audit.stop()
    assert [r.getMessage() for r in caplog.records].count("access.audit_failed") == 1
    assert audit.dropped == 2
    assert lines_of(folder / "audit.jsonl")[0]["n"] == "3"


def test_a_file_that_cannot_be_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(HostlerError, match=r"gateway\.audit_file"):
        audit_to(tmp_path / "none" / "audit.jsonl")
