"""Settings from any text: a value of the right type, or one line that says what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fakes.settings import House
from hypothesis import given
from hypothesis import strategies as st

from hostler.config.describe import settings_of
from hostler.config.layers import from_environment, from_file, from_flags
from hostler.config.quantities import parse_bytes, parse_seconds
from hostler.config.resolve import build
from hostler.core import HostlerError

KNOWN = settings_of(House)
QUANTITY_TEXT = st.text(alphabet="0123456789._ bBkKmMgGtTiIsuhdn-+e", max_size=12)
YAML_TEXT = st.lists(
    st.sampled_from(
        [*(part for name in KNOWN for part in name.split(".")), ":", " ", "\n", "\n  ", "-", "[",
         "]", "{", "}", ",", "&a", "*a", "!!x", "|", "'", '"', "#", "1", "2GiB", "5m", "null",
         "<<", "?", "---", "\t", "é", "\x07", "true"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(QUANTITY_TEXT)
def test_a_size_is_a_whole_number_or_a_value_error(text: str) -> None:
    try:
        size = parse_bytes(text)
    except ValueError:
        return
    assert isinstance(size, int)
    assert size >= 0


@given(QUANTITY_TEXT)
def test_a_duration_is_a_positive_number_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_seconds(text)
    except ValueError:
        return
    assert seconds >= 0
    assert not math.isnan(seconds)


@given(st.integers(0, 1 << 62), st.sampled_from(["", "B", "KiB", "MB", "GiB"]))
def test_whole_sizes_are_exact(number: int, unit: str) -> None:
    factor = {"": 1, "B": 1, "KiB": 1024, "MB": 1000**2, "GiB": 1024**3}[unit]
    assert parse_bytes(f"{number}{unit}") == number * factor


@given(st.sampled_from(list(KNOWN)), st.text(max_size=20))
def test_any_text_is_a_value_or_one_line(name: str, text: str) -> None:
    try:
        found = build(House, KNOWN, from_flags([(name, text, "--set")], KNOWN))
    except HostlerError as error:
        message = error.message
    else:
        again = build(House, KNOWN, from_environment(KNOWN, {KNOWN[name].variable: text}))
        assert again.settings == found.settings
        return
    assert message.startswith("--set: ")
    assert "\n" not in message


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that each example overwrites."""
    return tmp_path_factory.mktemp("config") / "house.yaml"


@given(st.one_of(YAML_TEXT.map(str.encode), st.binary(max_size=60)))
def test_any_file_is_settings_or_one_line_that_names_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        build(House, KNOWN, from_file(path, KNOWN))
    except HostlerError as error:
        message = error.message
    else:
        return
    assert str(path) in message
    assert "\n" not in message
