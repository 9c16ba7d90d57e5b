"""The pure parts of bench/: what wrk printed, what rounds say, when a goal is missed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.arrangement import Arrangement, arrangements
from bench.grpc_load import parse as parse_h2load
from bench.harness import Goal, Round, differences, ratios, rounds, spread, verdict
from bench.load import MARK, LoadError, parse
from bench.v2 import answer, binary_request, json_request

AT_LEAST = Goal(at_least=True, value=0.75)
AT_MOST = Goal(at_least=False, value=1.1)
NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


@pytest.mark.parametrize(
    ("samples", "goal", "expected"),
    [
        ([0.8, 0.7, 0.76], AT_LEAST, True),
        ([0.75], AT_LEAST, True),
        ([0.7, 0.71, 0.76], AT_LEAST, "within noise"),
        ([0.7, 0.71, 0.74], AT_LEAST, False),
        ([1.0, 1.2, 1.05], AT_MOST, True),
        ([1.2, 1.05, 1.3], AT_MOST, "within noise"),
        ([1.2, 1.11], AT_MOST, False),
        ([5.0], None, None),
    ],
)
def test_a_goal_is_missed_only_if_the_whole_interval_misses(samples, goal, expected):
    assert verdict(samples, goal) == expected


def test_rounds_interleave_and_end_with_the_base():
    order = []

    def measure(name, figure):
        order.append(name)
        return figure

    found = rounds(lambda: measure("base", 2.0), lambda: measure("ours", 1.0), 2)
    assert order == ["base", "ours", "base"] * 2
    assert found == [Round(2.0, 1.0, 2.0)] * 2


def test_a_steady_drift_cancels_in_the_ratio_and_shows_in_the_base_over_itself():
    drifting = [Round(base=100.0, ours=88.0, base_again=120.0)]
    assert ratios(drifting) == ([0.8], [1.2])
    assert differences(drifting) == ([-22.0], [20.0])


def test_spread_keeps_every_sample():
    assert spread([3.0, 1.0, 2.00004]) == {
        "median": 2.0,
        "interval": [1.0, 3.0],
        "samples": [3.0, 1.0, 2.0],
    }


def wrk_output(**changes):
    result = {"requests": 500, "duration_us": 2_000_000, "p50_us": 150, "p99_us": 900}
    line = json.dumps({**result, "errors": NO_ERRORS, **changes})
    return f"Running 2s test\n  1 threads and 8 connections\n{MARK}{line}\n"


def test_what_wrk_measured_is_read_in_seconds():
    load = parse(wrk_output(), used_s=0.05)
    assert load.requests_per_s == 250.0
    assert load.p50_s == pytest.approx(150e-6)
    assert load.p99_s == pytest.approx(900e-6)
    assert load.cpu_s == pytest.approx(100e-6)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("unable to connect", "wrk printed no result: 'unable to connect'"),
        (wrk_output(errors={**NO_ERRORS, "status": 3}), "{'status': 3} of 500 requests failed"),
        (wrk_output(requests=0), "no request was answered"),
    ],
)
def test_a_run_with_errors_is_no_figure(output, message):
    with pytest.raises(LoadError) as caught:
        parse(output, used_s=0.0)
    assert str(caught.value) == message


@pytest.mark.parametrize("make", [json_request, binary_request])
def test_a_request_reads_back_as_the_tensor_it_was_made_from(make):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    request = make("echo", "values", array)
    size = request.headers.get("Inference-Header-Content-Length")
    mirrored = request.body.replace(b'"inputs"', b'"outputs"')
    found = answer(mirrored, None if size is None else int(size) + 1)
    assert found["values"].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("cores", "shapes"),
    [
        (1, {(1, 1), (2, 1)}),
        (2, {(1, 2), (2, 1), (2, 2)}),
        (8, {(1, 8), (2, 4), (2, 8), (8, 1)}),
    ],
)
def test_arrangements_use_all_cores_and_every_batch(cores, shapes):
    found = arrangements(cores)
    assert {(each.callers, each.threads) for each in found} == shapes
    assert len(found) == len(set(found)) == 5 * len(shapes)
    assert Arrangement(32, 1, cores) in found


H2LOAD = """
finished in 3.00s, 9511.33 req/s, 3.25MB/s
requests: 28534 total, 28566 started, 28534 done, 28534 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 28534 2xx, 0 3xx, 0 4xx, 0 5xx
"""


def test_h2load_is_read():
    assert parse_h2load(H2LOAD) == (28534, 3.0)
    assert parse_h2load(H2LOAD.replace("3.00s", "500.00ms")) == (28534, 0.5)


@pytest.mark.parametrize(
    "output",
    ["", H2LOAD.replace("0 failed", "1 failed"), H2LOAD.replace("28534 succeeded", "0 succeeded")],
)
def test_h2load_without_a_good_result(output):
    with pytest.raises(LoadError):
        parse_h2load(output)
