"""Lines of progress."""

import pytest

from hostler.repository.fetch.progress import Meter, amount

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (2048, "2 KiB"),
        (5 * MIB, "5 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 40, "1024.0 GiB"),
    ],
)
def test_amounts(size, text):
    assert amount(size) == text


def test_a_line_every_two_seconds():
    meter = Meter("downloading s3://b/k", 512 * MIB, now=10.0)
    assert meter.first() == "downloading s3://b/k: 0 of 512 MiB"
    assert meter.add(60 * MIB, 11.0) is None
    assert meter.add(60 * MIB, 12.0) == "downloading s3://b/k: 120 of 512 MiB, 60 MiB/s"
    assert meter.add(1, 13.9) is None
    assert meter.add(24 * MIB, 14.0) == "downloading s3://b/k: 144 of 512 MiB, 12 MiB/s"


def test_what_was_there_before_is_no_speed():
    meter = Meter("downloading x", 512 * MIB, now=0.0)
    meter.add(100 * MIB, 0.0, known=True)
    assert meter.add(20 * MIB, 2.0) == "downloading x: 120 of 512 MiB, 10 MiB/s"


def test_an_unknown_total():
    meter = Meter("downloading x", -1, now=0.0)
    assert meter.add(20 * MIB, 2.0) == "downloading x: 20 MiB, 10 MiB/s"
