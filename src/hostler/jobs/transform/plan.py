"""What a transform job is to do. Pure.

A plan is data: it is kept in records and in the job's marker, and sent to other machines, as JSON.

Source: CreateTransformJob of the SageMaker API Reference; what is ours says so.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

__all__ = [
    "PAYLOAD_BYTES_MAX",
    "Assemble",
    "Errors",
    "Filters",
    "Input",
    "Naming",
    "Output",
    "Plan",
    "Source",
    "Split",
    "Strategy",
    "Table",
    "TableForm",
]

PAYLOAD_BYTES_MAX: Final = 100 << 20
"""Of a mini-batch. Source: CreateTransformJob, MaxPayloadInMB."""


class Source(enum.StrEnum):
    """What the input URL names: the beginning of all keys, or a list of objects."""

    PREFIX = "S3Prefix"
    MANIFEST = "ManifestFile"


class Split(enum.StrEnum):
    """How an object is cut into records."""

    NONE = "None"
    LINE = "Line"
    RECORDIO = "RecordIO"
    TFRECORD = "TFRecord"


class Strategy(enum.StrEnum):
    """How many records a request has: one, or as many as fit."""

    SINGLE = "SingleRecord"
    MULTI = "MultiRecord"


class Assemble(enum.StrEnum):
    """What stands between answers."""

    NONE = "None"
    LINE = "Line"


class Naming(enum.StrEnum):
    """An output's key below the output URL.

    RELATIVE: the input's key after the input URL, as users of SageMaker observe it. FOLDER: with
    the last part of the input URL before it, as AWS's documentation has it.
    """

    RELATIVE = "relative"
    FOLDER = "folder"


class TableForm(enum.StrEnum):
    """Forms of tables: rows of typed columns. IMAGES: a picture is a row, its key a column."""

    PARQUET = "parquet"
    JSON_LINES = "jsonl"
    CSV = "csv"
    IMAGES = "images"


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the objects are. `url`: of a store, as `storage.Storage` takes it.

    `gzip`: they are compressed. `content_type`: of every request, "" for none.
    """

    url: str
    source: Source = Source.PREFIX
    gzip: bool = False
    content_type: str = ""


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where answers go. `url`: a prefix. `accept`: "" for whatever the model likes."""

    url: str
    accept: str = ""
    assemble: Assemble = Assemble.NONE
    naming: Naming = Naming.RELATIVE


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DataProcessing: JSONPath on the way in and out, and whether outputs hold their input."""

    input: str = "$"
    output: str = "$"
    join: bool = False

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return self.join or self.input != "$" or self.output != "$"


class Errors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of bad records. Ours: SageMaker can only fail.

    `skip`: set them aside, beside the output, and go on; else their object fails. `records_max`:
    more than these in the whole job fail it, None for no limit.
    """

    skip: bool = False
    records_max: int | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Objects are tables, and columns tensors. Ours.

    `inputs`: for each input of the model, the columns that it is made of (several scalar columns
    are put side by side); inputs that are not named take the column of their own name. `keep`:
    input columns that the output has as well, `["*"]` for all. `outputs`: the model's outputs to
    write, by the column's name; empty is all, under their own names. `rows`: of one request, at
    most. `part_objects`: pictures whose rows make one output.
    """

    form: TableForm
    output_form: TableForm = TableForm.PARQUET
    inputs: dict[str, list[str]] = {}
    outputs: dict[str, str] = {}
    keep: list[str] = []
    rows: int = 256
    part_objects: int = 1000


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job.

    `split` and what follows hold for records; a `table` has its own. `payload_bytes_max`: of a
    mini-batch, 0 for as large as it comes. `concurrency`: requests at a time, 0 for as many as
    make it quick. `timeout_s`, `retries_max`: of each request.
    """

    name: str
    input: Input
    output: Output
    split: Split = Split.NONE
    strategy: Strategy = Strategy.MULTI
    payload_bytes_max: int = 6 << 20
    concurrency: int = 0
    timeout_s: float = 600.0
    retries_max: int = 3
    filters: Filters = Filters()
    errors: Errors = Errors()
    table: Table | None = None
