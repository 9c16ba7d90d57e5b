"""The file of keys: read when it changes, kept as it was when it breaks."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from fakes.keys import document

from hostler.config import parse_document
from hostler.core import Code, HostlerError
from hostler.gateway.access import Keys, read_keys
from hostler.gateway.access.keyring import Keyring


class Case:
    """A keyring that is told when to look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.adopted: list[Keys] = []
        self.times = 0
        self.write(document())
        self.ring = Keyring(path, parse_document, self.adopted.append)

    def write(self, content: Any, mode: int = 0o600) -> None:
        """Replace the file as editors do: another one under its name."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(content if isinstance(content, str) else repr(content))
        fresh.chmod(mode)
        self.times += 1
        os.utime(fresh, ns=(self.times, self.times))
        fresh.replace(self.path)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "keys.yaml")


async def test_it_is_read_anew_when_it_changes(case: Case) -> None:
    await case.ring.start(3600.0)
    await case.ring.look()
    assert len(case.adopted) == 1
    case.write(document(disabled=True))
    await case.ring.look()
    await case.ring.look()
    assert [keys.by_id["AKALICE"].disabled for keys in case.adopted] == [False, True]
    await case.ring.stop()
    await case.ring.stop()


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        ("keys: [", 0o600, "not valid YAML"),
        ("keys: [{id: a}]", 0o600, "keys.yaml"),
        (document(), 0o644, "chmod 600"),
        (None, 0, "No such file"),
    ],
)
async def test_a_broken_one_changes_nothing_and_is_told_once(
    case: Case, caplog: pytest.LogCaptureFixture, content: Any, mode: int, text: str
) -> None:
    await case.ring.start(3600.0)
    if content is None:
        case.path.unlink()
    else:
        case.write(content, mode)
    caplog.clear()
    for _ in range(3):
        await case.ring.look()
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "access.keys_refused")
    assert text in record.event["error"]  # type: ignore[attr-defined]
    assert len(case.adopted) == 1
    case.write(document(disabled=True))
    await case.ring.look()
    assert len(case.adopted) == 2
    await case.ring.stop()


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644, 0o666])
def test_a_file_that_others_may_read_is_refused(case: Case, mode: int) -> None:
    case.path.chmod(mode)
    with pytest.raises(HostlerError) as raised:
        read_keys(case.path, parse_document)
    assert raised.value.code is Code.PERMISSION_DENIED
    assert f"{mode:04o}" in raised.value.message


def test_a_group_that_may_read_is_warned_of(case: Case) -> None:
    case.path.chmod(0o640)
    _, warnings = read_keys(case.path, parse_document)
    assert "may read the secrets" in warnings[0]


def test_a_huge_file_is_not_read(case: Case) -> None:
    with case.path.open("ab") as file:
        file.truncate(20_000_000)
    with pytest.raises(HostlerError, match="right file"):
        read_keys(case.path, parse_document)
