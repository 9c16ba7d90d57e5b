"""`hostler profile`: the command line, the table and the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.profiles import measured, profile

from hostler.analysis import Ask, Choice
from hostler.cli import profile as command


class App:
    """In the place of `hostler.app`: notes what it is asked."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.ask = Ask("")

    def profile(self, settings: Any, paths: list[Path], ask: Ask, progress: Any) -> Any:
        self.paths, self.ask = paths, ask
        progress("halfway")
        results = [measured(concurrency=8), measured(Choice(4, 2, 1), 8, rate=150.0)]
        return profile(results, ask)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> App:
    fake = App()
    monkeypatch.setattr(command, "app", fake)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    return fake


def test_the_table_the_files_and_the_suggestion(run: Any, app: App, tmp_path: Path) -> None:
    ran = run("profile", "m")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].split()[:4] == ["BATCH", "INSTANCES", "THREADS", "CALLERS"]
    assert lines[2].split()[:4] == ["4", "2", "1", "8"]
    assert "Suggested: batch 4, 2 instances, 1 thread" in ran.out
    assert ran.error == "halfway\n"
    files = sorted(file.name for file in (tmp_path / "profile-m").iterdir())
    assert files == ["report.html", "results.csv", "suggested.pbtxt"]
    assert app.paths == [Path("m")]
    assert app.ask.model == ""


def test_the_options(run: Any, app: App, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    ran = run(
        "profile", "digits", "--repository", "m", "--latency-limit", "20ms", "--percentile", "99",
        "--batch", "8,1", "--instances", "2", "--threads", "1, 2", "--concurrency", "4",
        "--shape", "ids=16", "--shape", "ids=32", "--shape", "image=3x224x224", "--rows", "2",
        "--budget", "2m", "--data", "data.json", "--output", "out", "--version", "3",
    )  # fmt: skip
    assert ran.code == 0, ran.error
    ask = app.ask
    assert (ask.model, ask.version, ask.rows, ask.data) == ("digits", 3, 2, b"{}")
    assert (ask.limit_s, ask.percentile, ask.budget_s) == (0.02, 99.0, 120.0)
    assert (ask.rows_max, ask.instances, ask.threads) == ((1, 8), (2,), (1, 2))
    assert ask.concurrency == (4,)
    assert ask.shapes == {"ids": [(16,), (32,)], "image": [(3, 224, 224)]}
    assert (tmp_path / "out" / "report.html").exists()


def test_quick_has_a_shorter_time(run: Any, app: App) -> None:
    run("profile", "m", "--quick")
    assert app.ask.quick
    assert app.ask.budget_s == 15.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "nobody: no such file or folder"),
        (("m", "--batch", "1,a"), "--batch 1,a: numbers such as 1,2,4"),
        (("m", "--instances", "0"), "--instances 0: numbers must be 1 to 4096"),
        (("m", "--threads", "99999"), "--threads 99999: numbers must be"),
        (("m", "--latency-limit", "soon"), "--latency-limit soon: a duration"),
        (("m", "--latency-limit", "5"), "--latency-limit 5: a unit is expected, as in 5ms"),
        (("m", "--latency-limit", "0.5"), "as in 0.5ms"),
        (("m", "--budget", "0"), "--budget 0: more than 0"),
        (("m", "--shape", "ids"), "--shape ids: NAME=N,... is expected"),
        (("m", "--shape", "ids=a"), "--shape ids=a: NAME=N,... is expected"),
        (("m", "--data", "nobody"), "--data nobody: No such file"),
        (("m", "--output", "m/../file/x"), "--output"),
    ],
)
def test_misuse_is_one_line(
    run: Any, app: App, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "file").write_text("")
    ran = run("profile", *arguments)
    assert ran.code == 2
    assert message in ran.error
