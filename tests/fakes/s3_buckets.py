"""What the S3 server of tests keeps: buckets, objects, unfinished uploads; and its faults.

Source: Amazon S3 API Reference. See fakes.s3_server for the use of it.
"""

from __future__ import annotations

import bisect
import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

__all__ = ["KINDS", "Body", "Bucket", "Faults", "Stored", "Upload", "take_body"]

PIECE_BYTES = 1 << 20

KINDS = (
    "throttle",  # 503 SlowDown, nothing done
    "too_many",  # 429, nothing done
    "error",  # 500 InternalError, nothing done
    "stall",  # nothing done, no answer for `stall_s`, then the connection is closed
    "cut",  # nothing done, the connection is closed without an answer
    "lost",  # done, but the connection is closed without an answer
    "cut_body",  # half of the answer's body, then the connection is closed
    "stall_body",  # half of the answer's body, then silence for `stall_s`
    "late_error",  # CompleteMultipartUpload only: status 200, and an error in the body
)


@dataclass
class Faults:
    """What goes wrong. Chances are in [0, 1] and are tried in the order of KINDS.

    What happens to the n-th try of a request (its operation, key, part and range) follows from the
    `seed` alone, so that it does not matter how requests of several clients interleave. `at`:
    (operation, its how-manieth, from 1) -> kind, beside the chances. `only`: which requests may
    fail by chance, by operation and key. `in_a_row_max`: a request that failed by chance so many
    times is answered well, so that a client with more retries always gets through.
    """

    chances: Mapping[str, float] = field(default_factory=dict)
    at: dict[tuple[str, int], str] = field(default_factory=dict)
    seed: int = 0
    only: Callable[[str, str], bool] = lambda _operation, _key: True
    in_a_row_max: int = 1_000_000
    stall_s: float = 60.0
    _tries: Counter[str] = field(default_factory=Counter)
    _rows: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        unknown = {*self.chances, *self.at.values()} - set(KINDS)
        assert not unknown, f"{unknown} are none of {KINDS}"

    def next(self, operation: str, number: int, key: str, request: str) -> str:
        """What befalls this request, "" for nothing; `request` is the whole of it, as text."""
        if (operation, number) in self.at:
            return self.at[operation, number]
        if not self.chances or not self.only(operation, key):
            return ""
        self._tries[request] += 1
        if self._rows[request] >= self.in_a_row_max:
            self._rows[request] = 0
            return ""
        draw = random.Random(f"{self.seed} {self._tries[request]} {request}").random()
        for kind in KINDS:
            draw -= self.chances.get(kind, 0.0)
            if draw < 0:
                self._rows[request] += 1
                return kind
        self._rows[request] = 0
        return ""


class Body:
    """Bytes in memory or in files, one after another."""

    def __init__(self, segments: list[tuple[int, bytes | Path]]) -> None:
        self._segments = segments
        self.size = sum(size for size, _ in segments)

    def __add__(self, other: Body) -> Body:
        return Body(self._segments + other._segments)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        at = 0
        for size, where in self._segments:
            first, last = max(start - at, 0), min(stop - at, size)
            at += size
            if first >= last:
                continue
            if isinstance(where, bytes):
                yield where if last - first == size else where[first:last]
                continue
            with where.open("rb") as file:
                file.seek(first)
                while first < last:
                    piece = file.read(min(PIECE_BYTES, last - first))
                    first += len(piece)
                    yield piece


def take_body(read: Iterator[bytes], folder: Path | None, name: str) -> tuple[Body, bytes]:
    """The bytes of a request, in a file if there is a folder, and their MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    file: BinaryIO | None = None
    pieces, size = [], 0
    try:
        for piece in read:
            digest.update(piece)
            size += len(piece)
            if folder is None:
                pieces.append(piece)
            else:
                file = file or (folder / name).open("xb")
                file.write(piece)
    finally:
        if file is not None:
            file.close()
    where = folder / name if folder is not None and file is not None else b"".join(pieces)
    return Body([(size, where)]), digest.digest()


@dataclass
class Stored:
    """One object. `modified`: seconds since the epoch; S3 tells whole ones in headers."""

    body: Body
    etag: str
    headers: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=time.time)


@dataclass
class Upload:
    """An unfinished multipart upload. `parts`: number -> (body, MD5)."""

    bucket: str
    key: str
    headers: dict[str, str]
    parts: dict[int, tuple[Body, bytes]] = field(default_factory=dict)


class Bucket:
    """Objects by key, in order."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self._keys: list[str] = []
        self._lock = threading.Lock()

    def put(self, key: str, stored: Stored) -> None:
        with self._lock:
            if key not in self.objects:
                bisect.insort(self._keys, key)
            self.objects[key] = stored

    def delete(self, key: str) -> None:
        with self._lock:
            if self.objects.pop(key, None) is not None:
                self._keys.remove(key)

    def page(
        self, prefix: str, after: str, delimiter: str, keys_max: int
    ) -> tuple[list[tuple[str, Stored | None]], bool]:
        """Keys after `after`, and common prefixes without an object; whether there are more."""
        found: list[tuple[str, Stored | None]] = []
        with self._lock:
            at = max(bisect.bisect_right(self._keys, after), bisect.bisect_left(self._keys, prefix))
            while at < len(self._keys) and self._keys[at].startswith(prefix):
                key = self._keys[at]
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                common = key[: cut + len(delimiter)] if cut >= 0 else ""
                if common and after.startswith(common):  # told on an earlier page
                    at += 1
                    continue
                if len(found) == keys_max:
                    return found, True
                found.append((common, None) if common else (key, self.objects[key]))
                at += 1
                while common and at < len(self._keys) and self._keys[at].startswith(common):
                    at += 1
        return found, False
