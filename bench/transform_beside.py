"""Do clients keep their p99 while a batch transform job runs in the same server?

A model is asked in an open loop at a fifth of its maximum, alone and beside a job without end. The
bound is the greater of twice the p99 alone, and the p99 alone + what one batch computes + 10 ms.
The base of a round is the model alone, so that A/A says how steady its p99 is by itself.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import boto3
import numpy as np
import numpy.typing as npt
import onnxruntime
from botocore.config import Config

from bench.endpoints import REGION, deploy
from bench.harness import Effort, Goal, line, ratios, rounds
from bench.load import drive
from bench.models import MODELS, subject
from bench.multi_model import SLACK_S, Seen
from bench.open_loop import OpenLoad, drive_open
from bench.photos import photos
from bench.servers import Server, ServerError, hostler
from bench.v2 import Request, binary_request, json_request, post

Array = npt.NDArray[np.generic]

WITHIN: Final = Goal(at_least=False, value=1.0)
SHARE: Final = 0.2
CONNECTIONS: Final = 32
WARM_S: Final = 2.0
STOP_S: Final = 60.0
ROWS_FILES: Final = 4
ROWS_BYTES: Final = 64 << 20
BATCH_ROWS: Final = 8


@dataclass(frozen=True)
class Beside:
    """What clients ask, and the job. `compute_s`: of the job's batch by itself, on one core."""

    label: str
    repository: Path
    request: Request
    job: dict[str, Any]
    compute_s: float
    endpoint: str = ""


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """The same model for both; then a model of an endpoint, which the job has once more."""
    numbers = itertools.count()
    for case in (digits(), pictures(), endpoint()):
        with tempfile.TemporaryDirectory() as folder:
            yield measured(case, Path(folder), effort, numbers)


def digits() -> Beside:
    """A tiny network, JSON; the job reads rows of CSV."""
    model = subject("digits")
    job = {
        "ModelName": "digits",
        "TransformInput": _input(rows_of_csv(model.inputs), "text/csv", "Line"),
    }
    request = json_request("digits", model.input, model.inputs[:1])
    compute_s = compute_of(model.file, np.repeat(model.inputs[:1], 64, 0))
    return Beside("digits, CSV rows", model.repository, request, job, compute_s)


def pictures() -> Beside:
    """Some 2 ms on one core; tensors for clients, photographs for the job."""
    found = photos()
    pixels = np.random.default_rng(7).random((1, 3, 128, 128), np.float32)
    job = {
        "ModelName": "photo-classifier",
        "TransformInput": _input(found.records, "image/jpeg", "TFRecord"),
        "BatchStrategy": "SingleRecord",
    }
    request = binary_request("photo-classifier", "image", pixels)
    compute_s = compute_of(found.model / "1" / "model.onnx", np.repeat(pixels, BATCH_ROWS, 0))
    return Beside("photographs", found.model.parent, request, job, compute_s)


def endpoint() -> Beside:
    """Photographs for clients as well, at an endpoint; the job loads the model once more."""
    case = pictures()
    body = next(iter(sorted(photos().images.iterdir()))).read_bytes()
    request = Request("/endpoints/photos/invocations", {"Content-Type": "image/jpeg"}, body)
    job = {**case.job, "ModelName": "photos"}
    label = "photographs at an endpoint, the job's model beside it"
    return Beside(label, case.repository, request, job, case.compute_s, endpoint="photos")


def _input(folder: Path, content_type: str, split: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"file://{folder}/"}
    return {
        "DataSource": {"S3DataSource": source},
        "ContentType": content_type,
        "SplitType": split,
    }


def rows_of_csv(rows: Array) -> Path:
    """Some large files of digits, made once."""
    folder = MODELS / "digits-rows"
    if (folder / "ready").exists():
        return folder / "rows"
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    block = "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows.tolist())
    for number in range(ROWS_FILES):
        with (folder / "rows" / f"{number}.csv").open("w") as file:
            for _ in range(ROWS_BYTES // len(block)):
                file.write(block)
    (folder / "ready").touch()
    return folder / "rows"


def compute_of(file: Path, rows: Array) -> float:
    """The median seconds of a run of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: rows}
    times = []
    for _ in range(30):
        started = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - started)
    return median(times)


def measured(case: Beside, folder: Path, effort: Effort, numbers: Iterator[int]) -> dict[str, Any]:
    """One line: the p99 beside the job over the bound."""
    with hostler(case.repository, "--state-dir", f"{folder}/state") as server:
        if case.endpoint:
            model = next(path for path in case.repository.iterdir() if path.is_dir())
            deploy(server, case.endpoint, f"file://{model}/")
        post(server.port, case.request)
        drive(server.port, case.request, CONNECTIONS, WARM_S)
        most = drive(server.port, case.request, CONNECTIONS, effort.run_s).requests_per_s
        seconds = effort.heavy_run_s
        ask = partial(drive_open, server.port, case.request, most * SHARE, seconds)
        alone, beside = Seen(), Seen()

        def with_job() -> float:
            with_output = {
                **case.job,
                "TransformOutput": {"S3OutputPath": f"file://{folder}/out-{next(numbers)}/"},
            }
            return beside.add(beside_job(server, with_output, f"job-{next(numbers)}", ask))

        found = rounds(lambda: alone.add(ask()), with_job, effort.rounds)
    bounds = [max(2 * r.base_mean, r.base_mean + case.compute_s + SLACK_S) for r in found]
    return line(
        f"clients beside a transform job, {case.label}: p99 over its bound, "
        "max(2 x alone, alone + one batch + 10 ms)",
        "ratio",
        [r.ours / bound for r, bound in zip(found, bounds, strict=True)],
        goal=WITHIN,
        again=ratios(found)[1],
        max_per_s=round(most),
        rate_per_s=round(most * SHARE, 1),
        p50_alone_ms=alone.ms("taken", 0.5),
        p99_alone_ms=alone.ms("taken", 0.99),
        p50_beside_ms=beside.ms("taken", 0.5),
        p99_beside_ms=beside.ms("taken", 0.99),
        bound_ms=round(median(bounds) * 1e3, 2),
        one_batch_ms=round(case.compute_s * 1e3, 2),
        client_lag_p99_alone_ms=alone.ms("lags", 0.99),
        client_lag_p99_beside_ms=beside.ms("lags", 0.99),
    )


def beside_job(
    server: Server, job: dict[str, Any], name: str, ask: Callable[[], OpenLoad]
) -> OpenLoad:
    """Ask while a job runs. Raises: ServerError if it does not run all the time."""
    client = boto3.client(
        "sagemaker",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name=REGION,
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=Config(retries={"total_max_attempts": 1}),
    )
    client.create_transform_job(
        TransformJobName=name,
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **job,
    )
    time.sleep(WARM_S)
    seen = ask()
    found = client.describe_transform_job(TransformJobName=name)
    if found["TransformJobStatus"] != "InProgress":
        raise ServerError(f"the job did not run all the time: {found}")
    client.stop_transform_job(TransformJobName=name)
    deadline = time.monotonic() + STOP_S
    while client.describe_transform_job(TransformJobName=name)["TransformJobStatus"] != "Stopped":
        if time.monotonic() > deadline:
            raise ServerError("the job does not stop")
        time.sleep(0.1)
    return seen
