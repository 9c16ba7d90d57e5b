"""Sizes and durations, there and back."""

from __future__ import annotations

import math

import pytest

from hostler.config.quantities import (
    format_bytes,
    format_quantity,
    format_seconds,
    parse_bytes,
    parse_seconds,
)

SIZES = [
    ("0", 0),
    ("4096", 4096),
    ("512MB", 512_000_000),
    ("2GiB", 2 * 1024**3),
    ("2 gib", 2 * 1024**3),
    ("1.5GiB", 3 * 1024**3 // 2),
    ("64Mi", 64 * 1024**2),
    ("10_000 B", 10_000),
    ("9007199254740993", 9007199254740993),  # more than a double holds exactly
]
NO_SIZES = ["", "GiB", "-1", "2 XB", "1e3", "0.3B", "2GiB 1", "1..5MB", "9" * 200, "٣٣MB x"]

DURATIONS = [
    ("0", 0.0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("30s", 30.0),
    ("250ms", 0.25),
    ("500 us", 0.0005),
    ("5m", 300.0),
    ("5min", 300.0),
    ("1h30m", 5400.0),
    ("2 D", 172800.0),
    ("inf", math.inf),
]
NO_DURATIONS = ["", "s", "-5s", "5m30", "30 5m", "5 weeks", "nan", "1e3s", "s5", "1m" * 200]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="bytes"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1000, "1000 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (3 << 30, "3 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.00025, "250 us"),
        (0.25, "250 ms"),
        (1.25, "1.25 s"),
        (90.0, "90 s"),
        (300.0, "5 min"),
        (7200.0, "2 h"),
        (math.inf, "inf s"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("text", [text for text, size in SIZES if size < 2**50])
def test_a_formatted_size_reads_back(text: str) -> None:
    size = parse_bytes(text)
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=0.06)


def test_a_secret_is_not_shown() -> None:
    assert format_quantity("hunter2", "secret") == "***"
    assert format_quantity("", "secret") == ""
