"""The bare loop: TFRecords -> decoded -> onnxruntime, on all cores, and nothing else.

Each core has a thread of its own that decodes and runs `--batch` pictures at a time in a session of
one thread; answers are one JSON line each, in order, as hostler writes them. A process of its own,
so that its whole life can be timed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import onnxruntime
from PIL import Image

PICTURE = (128, 128)


def main() -> None:
    """Classify all records of a folder into another."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    chosen = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(chosen.model), options)
    cores = len(os.sched_getaffinity(0))

    def answers(bodies: list[bytes]) -> list[str]:
        stacked = np.stack([decoded(body) for body in bodies])
        return [json.dumps(row) for row in session.run(None, {"image": stacked})[0].tolist()]

    chosen.output.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(cores) as pool:
        for path in sorted(chosen.records.iterdir()):
            with (chosen.output / f"{path.name}.out").open("w") as out:
                for lines in pool.map(answers, batches(path, chosen.batch)):
                    out.writelines(f"{line}\n" for line in lines)


def decoded(body: bytes) -> Any:
    """A picture as the classifier takes it, the way hostler does by default."""
    picture = Image.open(io.BytesIO(body))
    picture.draft("RGB", PICTURE)
    picture = picture.convert("RGB").resize(PICTURE, Image.Resampling.BILINEAR)
    return np.asarray(picture).transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)


def batches(path: Path, size: int) -> Iterator[list[bytes]]:
    """The records of a file, some at a time, checked."""
    found: list[bytes] = []
    with path.open("rb") as file:
        while head := file.read(12):
            (length,) = struct.unpack_from("<Q", head)
            body = file.read(length)
            crc = google_crc32c.value(body)
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            if masked != struct.unpack("<I", file.read(4))[0]:
                raise SystemExit(f"{path}: broken")
            found.append(body)
            if len(found) == size:
                yield found
                found = []
    if found:
        yield found


if __name__ == "__main__":
    main()
