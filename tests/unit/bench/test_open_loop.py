"""bench/open_loop.py: what is due when, and how answers are read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.load import LoadError
from bench.multi_model import Seen, check_cold
from bench.open_loop import OpenLoad, bytes_of, due_times, whole_size
from bench.v2 import Request, WrongAnswer


def test_due_times_have_the_rate_and_are_random():
    due = due_times(1000.0, 5.0)
    gaps = np.diff(due)
    assert len(due) == 5000
    assert due == sorted(due)
    assert due[-1] == pytest.approx(5.0, rel=0.1)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)
    assert due == due_times(1000.0, 5.0)
    assert due[:10] != due_times(1000.0, 5.0, seed=8)[:10]


def test_a_request_as_it_is_sent():
    sent = bytes_of(Request("/a", {"X-B": "c"}, b"body"))
    assert sent == b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nX-B: c\r\nContent-Length: 4\r\n\r\nbody"


def test_answers_are_whole_when_their_length_says_so():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nabcde"
    head = answer.index(b"\r\n\r\n") + 4
    assert {whole_size(answer[:size]) for size in range(head)} == {-1}
    assert {whole_size(answer[:size]) for size in range(head, len(answer) + 1)} == {len(answer)}
    for wrong in (b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        with pytest.raises(LoadError):
            whole_size(wrong)


def test_quantiles_are_the_median_over_the_runs():
    runs = Seen()
    for p99 in (0.001, 0.002, 0.05):
        assert runs.add(OpenLoad(taken=[p99] * 10, lags=[0.0] * 10)) == pytest.approx(p99)
    assert runs.ms("taken", 0.99) == 2.0
    assert runs.ms("lags", 0.99) == 0.0


def test_cold_requests_that_were_warm_are_no_answer():
    runs = Seen()
    runs.add(OpenLoad(taken=[0.1], cold_taken=list(itertools.repeat(0.1, 4))))
    check_cold(4, runs)
    with pytest.raises(WrongAnswer, match="only 3 models were loaded for 4 requests"):
        check_cold(3, runs)
