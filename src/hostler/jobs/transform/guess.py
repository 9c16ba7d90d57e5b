"""What inputs are, by their names: the options that nobody needs to type. Pure. Ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hostler.jobs.transform.plan import Assemble, Split, TableForm

__all__ = ["Guess", "guess"]


@dataclass(frozen=True, slots=True)
class Guess:
    """How objects of such a name are read. `table`: they are tables; None: records.

    `answers`: the media type that answers are wanted in, "" for whatever the model likes.
    """

    content_type: str = ""
    split: Split = Split.NONE
    assemble: Assemble = Assemble.NONE
    answers: str = ""
    gzip: bool = False
    table: TableForm | None = None


_LINES: Final = (Split.LINE, Assemble.LINE)
_BY_SUFFIX: Final = {
    "csv": Guess("text/csv", *_LINES, answers="text/csv"),
    "jsonl": Guess("application/jsonlines", *_LINES, answers="application/jsonlines"),
    "ndjson": Guess("application/jsonlines", *_LINES, answers="application/jsonlines"),
    "json": Guess("application/json"),
    "npy": Guess("application/x-npy"),
    "tfrecord": Guess("", Split.TFRECORD, Assemble.LINE),
    "tfrecords": Guess("", Split.TFRECORD, Assemble.LINE),
    "rec": Guess("", Split.RECORDIO, Assemble.LINE),
    "recordio": Guess("", Split.RECORDIO, Assemble.LINE),
    "jpg": Guess("image/jpeg"),
    "jpeg": Guess("image/jpeg"),
    "png": Guess("image/png"),
    "webp": Guess("image/webp"),
    "bmp": Guess("image/bmp"),
    "gif": Guess("image/gif"),
    "parquet": Guess(table=TableForm.PARQUET),
}


def guess(name: str) -> Guess | None:
    """How an object of this name is read; None where its suffix says nothing."""
    parts = name.rpartition("/")[2].lower().split(".")
    gzip = parts[-1] in ("gz", "gzip")
    if gzip:
        parts.pop()
    found = _BY_SUFFIX.get(parts[-1]) if len(parts) > 1 else None
    if found is None or not gzip:
        return found
    return Guess(found.content_type, found.split, found.assemble, found.answers, True, found.table)
