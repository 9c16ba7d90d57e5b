"""A job on files, with the store that users have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.transform import HANDS, EchoModel

from hostler.core import SystemClock
from hostler.jobs import Config, Plan, Progress, Summary, transform
from hostler.jobs.transform import stream
from hostler.jobs.transform.local import LocalRunner
from hostler.jobs.transform.naming import is_marker
from hostler.jobs.transform.plan import Assemble, Input, Output, Split, Strategy
from hostler.jobs.transform.ports import Site
from hostler.jobs.transform.run import Start
from hostler.storage import Config as StorageConfig
from hostler.storage import Storage

ROWS = b"".join(b"row %d\n" % n for n in range(500))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def run(folder: Path, model: EchoModel, stop: asyncio.Event) -> Summary:
    what = Plan(
        name="job",
        input=Input(url=f"file://{folder}/in"),
        output=Output(url=f"file://{folder}/out", assemble=Assemble.LINE),
        split=Split.LINE,
        strategy=Strategy.SINGLE,
    )
    site = Site(Storage(StorageConfig(file_urls=True), {}), Config(), SystemClock())
    progress = Progress()
    runner = LocalRunner(what, model, site, progress, HANDS)
    return await transform(what, runner, site, progress, Start("model"), stop)


@pytest.mark.parametrize("small", [0, 1 << 20])
async def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(stream, "SMALL_BYTES_MAX", small)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        (tmp_path / "in" / name).write_bytes(ROWS)
    stop = asyncio.Event()
    model = EchoModel(answer=lambda body: stop.set() or body if body == b"row 300" else body)
    first = await run(tmp_path, model, stop)
    assert first.stopped
    left = files(tmp_path / "out")
    assert any(map(is_marker, left))
    outputs = [name for name in left if name.endswith(".out")]
    stop.clear()
    second = await run(tmp_path, EchoModel(), stop)
    assert (second.objects, second.failure, second.stopped) == (3, "", False)
    assert second.before >= len(outputs)  # what was being put when it was stopped may be there
    assert files(tmp_path / "out") == dict.fromkeys(
        ("a.csv.out", "b.csv.out", "sub/c.csv.out"), ROWS
    )
    third = await run(tmp_path, EchoModel(answer=lambda _: b"new"), stop)
    assert (third.objects, third.before) == (3, 0)
    assert set(files(tmp_path / "out").values()) == {b"new\n" * 500}
