"""Documents agree with the code, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostler.config import known_settings, markdown

ROOT = Path(__file__).parents[2]
UNITS = {"secret", "s", "bytes", "count", "ratio", "path", "flag", "text"}
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"),
                *ROOT.glob("examples/**/*.md"), *ROOT.glob("proto/*.md")])  # fmt: skip
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _slug(heading: str) -> str:
    """A heading's anchor. Source: how GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leaves the repository"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(_slug, headings), f"{page.name}: {link}"


def test_the_settings_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == markdown(known_settings()), "run `make docs`"


@pytest.mark.parametrize("name", known_settings())
def test_every_setting_is_described(name: str) -> None:
    setting = known_settings()[name]
    assert len(setting.description) > 15, "say what it is and what happens at the limit"
    assert setting.unit in UNITS
    if setting.unit == "s":
        assert name.endswith("_s") or "_s_" in name, "units last: `..._s`"
    if setting.unit == "bytes":
        assert "bytes" in name, "units last: `..._bytes`, `..._bytes_max`"


def test_the_architecture_page_is_one_page_and_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert len(text.splitlines()) < 200
    rooms = [path.parent.name for path in (ROOT / "src" / "hostler").glob("*/__init__.py")]
    assert not [room for room in rooms if f"`{room}" not in text]


def test_changes_are_named_after_what_they_do() -> None:
    files = [path.name for path in (ROOT / "changelog.d").iterdir()]
    assert files
    for name in files:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.(added|changed|fixed|removed)\.md", name), name
