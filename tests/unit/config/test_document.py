"""The reference page and the starting file agree with the table."""

from __future__ import annotations

from pathlib import Path

from fakes.settings import House

from hostler.config.describe import settings_of
from hostler.config.document import markdown, yaml_file
from hostler.config.layers import from_file
from hostler.config.resolve import build

KNOWN = settings_of(House)


def test_every_setting_is_a_row_of_the_page() -> None:
    page = markdown(KNOWN)
    for name in KNOWN:
        assert page.count(f"| `{name}` |") == 1
    assert "| `door.body_bytes_max` | `1 KiB` | a size in bytes at least 1 | Body. |" in page


def test_the_starting_file_says_nothing_until_a_line_is_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml_file(KNOWN, {}))
    assert from_file(path, KNOWN) == []


def test_every_line_of_the_starting_file_is_a_value_that_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml_file(KNOWN, {name: setting.default for name, setting in KNOWN.items()}))
    given = from_file(path, KNOWN)
    assert [item.name for item in given] == list(KNOWN)
    assert build(House, KNOWN, given).settings == House()
