"""Is batch transform as fast as a bare loop, and how much faster than one request after another?

The classic job: ten thousand photographs through a classifier of some 2 ms on one core, as JPEG
objects and, the same bytes, as ten TFRecord files. Everything is timed as a whole process, its
start and end included: `hostler transform` against a script that does nothing but read, decode and
run (`bare_photos.py`), and against a client that sends one file after the other to an endpoint.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.endpoints import deploy
from bench.harness import ROOT, THOROUGH, Effort, Goal, line, ratios, rounds, spread
from bench.photos import COUNT, Photos, photos
from bench.servers import Server, hostler
from bench.v2 import WrongAnswer

QUICK_COUNT: Final = 1_000
BATCHES: Final = (1, 4, 8, 16)
"""What the bare loop may run at a time: the best of them is the base."""
ROUNDS: Final = 3
JOB_S_MAX: Final = 600.0
BARE_GOAL: Final = Goal(at_least=True, value=0.9)
NAIVE_GOAL: Final = Goal(at_least=True, value=1.5)


def run(effort: Effort) -> Iterator[dict[str, Any]]:
    """Both forms of the job; answers are compared with the bare loop's before speed is."""
    count = COUNT if effort is THOROUGH else QUICK_COUNT
    found = photos(count)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        batch = best_batch(found, root)
        bare = partial(images_per_s, partial(run_bare, found, root / "bare", batch), count)
        as_records = partial(images_per_s, partial(run_job, found, root / "records", True), count)
        as_images = partial(images_per_s, partial(run_job, found, root / "images", False), count)
        as_records(), as_images()  # once for the caches of the disk
        check(found, root)
        measured = rounds(bare, as_records, min(ROUNDS, effort.rounds))
        ours, again = ratios(measured)
        naive = run_naive(found, root, count)
        images = [as_images() for _ in measured]
    base = [sample.base_mean for sample in measured]
    records = [sample.ours for sample in measured]
    detail = {
        "images": count,
        "bare_images_per_s": spread(base),
        "bare_batch": batch,
        "tfrecord_images_per_s": spread(records),
        "jpeg_objects_images_per_s": spread(images),
        "naive_images_per_s": round(naive, 1),
    }
    yield line(
        "transform, against a bare loop", "ratio", ours, goal=BARE_GOAL, again=again, **detail
    )
    yield line(
        "transform, against one request after another",
        "ratio",
        [sample / naive for sample in records],
        goal=NAIVE_GOAL,
        jpeg_objects=spread([sample / naive for sample in images]),
    )


def images_per_s(job: Callable[[], None], count: int) -> float:
    """Of one whole process."""
    started = time.perf_counter()
    job()
    return count / (time.perf_counter() - started)


def best_batch(found: Photos, root: Path) -> int:
    """The quickest of a few, each run once."""
    taken: dict[int, float] = {}
    for batch in BATCHES:
        started = time.perf_counter()
        run_bare(found, root / "bare", batch)
        taken[batch] = time.perf_counter() - started
    return min(taken, key=lambda batch: taken[batch])


def run_bare(found: Photos, output: Path, batch: int) -> None:
    """Nothing but decode and onnxruntime."""
    shutil.rmtree(output, ignore_errors=True)
    model = str(found.model / "1" / "model.onnx")
    command = [sys.executable, "-m", "bench.bare_photos", model, str(found.records), str(output)]
    subprocess.run([*command, "--batch", str(batch)], check=True, cwd=ROOT, timeout=JOB_S_MAX)


def run_job(found: Photos, output: Path, as_records: bool) -> None:
    """`hostler transform` with its defaults."""
    shutil.rmtree(output, ignore_errors=True)
    inputs = found.records if as_records else found.images
    command = [sys.executable, "-m", "hostler", "transform", str(found.model)]
    options = ["--input", str(inputs), "--output", str(output), "--content-type", "image/jpeg"]
    form = ["--split", "TFRecord"] if as_records else ["--split", "None"]
    said = subprocess.run(
        [*command, *options, *form, "--accept", "application/jsonlines"],
        check=False,
        capture_output=True,
        text=True,
        timeout=JOB_S_MAX,
    )
    if said.returncode:
        raise WrongAnswer(f"hostler transform ended with {said.returncode}: {said.stderr[-2000:]}")


def check(found: Photos, root: Path) -> None:
    """That all three have the same answers in the same order. Raises: WrongAnswer."""
    bare, records = rows_of(root / "bare"), rows_of(root / "records")
    images = rows_of(root / "images")
    inputs = sorted(found.images.iterdir())
    if not len(bare) == len(records) == len(images) == len(inputs):
        raise WrongAnswer(f"{len(inputs)}: {len(bare)}, {len(records)}, {len(images)} answers")
    for name, rows in (("records", records), ("images", images)):
        if not np.allclose(rows, bare, rtol=1e-3, atol=1e-4):
            raise WrongAnswer(f"answers from {name} are not those of the bare loop")
        if not np.array_equal(np.argmax(rows, 1), np.argmax(bare, 1)):
            raise WrongAnswer(f"classes from {name} are not those of the bare loop")


def rows_of(folder: Path) -> np.ndarray[Any, Any]:
    """All answers of a job, in the order of its objects."""
    rows = []
    for path in sorted(folder.glob("*.out")):
        rows += [json.loads(text) for text in path.read_text().splitlines()]
    return np.array([np.ravel(row) for row in rows], np.float64)


def run_naive(found: Photos, root: Path, count: int) -> float:
    """Images a second of a client that sends a file, writes its answer, and takes the next."""
    output = root / "naive"
    output.mkdir()
    state = str(root / "state")
    with hostler(found.model.parent, "--state-dir", state) as server:
        deploy(server, "photos", f"file://{found.model}/")
        started = time.perf_counter()
        ask_all(server, found, output)
        return count / (time.perf_counter() - started)


def ask_all(server: Server, found: Photos, output: Path) -> None:
    """One after another, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "image/jpeg", "Accept": "application/jsonlines"}
    for path in sorted(found.images.iterdir()):
        body = path.read_bytes()
        connection.request("POST", "/endpoints/photos/invocations", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise WrongAnswer(f"{path.name}: {answer.status} {content[:500]!r}")
        (output / f"{path.name}.out").write_bytes(content)
    connection.close()
