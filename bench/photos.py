"""Ten thousand photographs: crops of two real ones with changes, as files and as TFRecords.

Made once, from a fixed seed, into the folder that git ignores.
"""

from __future__ import annotations

import io
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np

from bench import graphs
from bench.models import MODELS

__all__ = ["COUNT", "FILES", "SIDE", "Photos", "photos"]

COUNT: Final = 10_000
FILES: Final = 10
"""TFRecord files that hold all of them."""
SIDE: Final = 224
"""Pixels of a photograph's side; the classifier takes 128."""
_SEED: Final = 7
_QUALITY: Final = 88
_MASK: Final = 0xA282EAD8


@dataclass(frozen=True)
class Photos:
    """The same photographs twice, and what classifies them.

    `images`: a folder of JPEG files. `records`: of TFRecord files with the same bytes in the same
    order. `model`: a model's folder.
    """

    images: Path
    records: Path
    model: Path


def photos(count: int = COUNT) -> Photos:
    """Make them, or find them made."""
    root = MODELS / f"photos-{count}"
    found = Photos(root / "images", root / "records", root / "models" / "photo-classifier")
    if (root / "ready").exists():
        return found
    shutil.rmtree(root, ignore_errors=True)
    found.images.mkdir(parents=True)
    found.records.mkdir()
    _write_photos(found, count)
    version = found.model / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(graphs.photo_classifier())
    (root / "ready").touch()
    return found


def _write_photos(found: Photos, count: int) -> None:
    from PIL import Image  # noqa: PLC0415 - the extra `images`
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - the extra `demo`

    sources = [Image.fromarray(array) for array in load_sample_images().images]
    random = np.random.default_rng(_SEED)
    per_file = -(-count // FILES)
    for first in range(0, count, per_file):
        with (found.records / f"part-{first // per_file:05}.tfrecord").open("wb") as records:
            for number in range(first, min(first + per_file, count)):
                body = _photo(sources[number % len(sources)], random)
                (found.images / f"{number:05}.jpg").write_bytes(body)
                records.write(_framed(body))


def _photo(source: Any, random: np.random.Generator) -> bytes:
    from PIL import ImageEnhance  # noqa: PLC0415 - the extra `images`

    side = int(random.integers(160, 400))
    left = int(random.integers(0, source.width - side))
    top = int(random.integers(0, source.height - side))
    crop = source.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
    crop = ImageEnhance.Brightness(crop).enhance(float(random.uniform(0.7, 1.3)))
    if random.random() < 0.5:
        crop = crop.transpose(0)  # left to right
    file = io.BytesIO()
    crop.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _framed(body: bytes) -> bytes:
    """A TFRecord. Source: TensorFlow, "TFRecord and tf.train.Example"."""
    length = struct.pack("<Q", len(body))
    return b"".join((length, _crc(length), body, _crc(body)))


def _crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
