"""The command line of `hostler transform`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from hostler.jobs import Assemble, Naming, Split, Strategy, TableForm

__all__ = ["Arguments", "On", "OnError", "To"]

_READ: Final = "How objects are read"
_ANSWERS: Final = "What is written"
_TABLES: Final = "Tables"
_ERRORS: Final = "Errors and limits"
_MODEL: Final = "The model"
_WHERE: Final = "Where it runs"


class On(enum.StrEnum):
    """Where a job runs."""

    LOCAL = "local"
    RAY = "ray"


class To(enum.StrEnum):
    """Forms of tables that are written."""

    PARQUET = "parquet"
    JSON_LINES = "jsonl"
    CSV = "csv"


class OnError(enum.StrEnum):
    """What becomes of a bad record."""

    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model's folder or file, an archive (model.tar.gz) or the URL of one; with "
            "--repository, its name.",
        ),
    ]
    input: Annotated[
        str,
        typer.Option("--input", "-i", metavar="PLACE", help="Folder, file, s3://, gs://, az://."),
    ]
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="PLACE", help="Folder or URL for the answers.")
    ]
    manifest: Annotated[
        bool,
        typer.Option(
            "--manifest",
            help='--input is a JSON list of objects: \\[{"prefix": "s3://b/p/"}, "a.csv", ...].',
            rich_help_panel=_READ,
        ),
    ] = False
    content_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Media type of every request. \\[default: by the objects' names]",
            rich_help_panel=_READ,
        ),
    ] = None
    gzip: Annotated[
        bool | None,
        typer.Option(
            "--gzip/--no-gzip",
            help="Objects are compressed. \\[default: by the objects' names]",
            rich_help_panel=_READ,
        ),
    ] = None
    split: Annotated[
        Split | None,
        typer.Option(
            case_sensitive=False,
            help="How an object is cut into records. \\[default: by the objects' names]",
            rich_help_panel=_READ,
        ),
    ] = None
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            case_sensitive=False,
            help="Records of one request. \\[default: MultiRecord for lines, else SingleRecord]",
            rich_help_panel=_READ,
        ),
    ] = None
    max_payload: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Largest request; 0 for no limit, one at a time.",
            rich_help_panel=_READ,
        ),
    ] = "6MiB"
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Media type of the answers. \\[default: as the model likes; csv for csv]",
            rich_help_panel=_ANSWERS,
        ),
    ] = None
    assemble: Annotated[
        Assemble | None,
        typer.Option(
            case_sensitive=False,
            help="What stands between answers: nothing, or a line's end. \\[default: Line where "
            "objects are split]",
            rich_help_panel=_ANSWERS,
        ),
    ] = None
    input_filter: Annotated[
        str,
        typer.Option(
            metavar="JSONPATH",
            help="What of a record the model gets, as $\\[1:] or $.features.",
            rich_help_panel=_ANSWERS,
        ),
    ] = "$"
    output_filter: Annotated[
        str,
        typer.Option(
            metavar="JSONPATH",
            help="What of an answer (with --join: of both) is written.",
            rich_help_panel=_ANSWERS,
        ),
    ] = "$"
    join: Annotated[
        bool,
        typer.Option("--join", help="Write each record with its answer.", rich_help_panel=_ANSWERS),
    ] = False
    naming: Annotated[
        Naming,
        typer.Option(
            help="Output names: relative to --input, or with its last folder in front.",
            rich_help_panel=_ANSWERS,
        ),
    ] = Naming.RELATIVE
    table: Annotated[
        TableForm | None,
        typer.Option(
            help="Read objects as tables, whose columns become the model's tensors. "
            "\\[default: parquet for .parquet]",
            rich_help_panel=_TABLES,
        ),
    ] = None
    to: Annotated[
        To | None,
        typer.Option(
            help="Form of the tables that are written. \\[default: parquet]",
            rich_help_panel=_TABLES,
        ),
    ] = None
    map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=COLUMN,...",
            help="Columns that make an input of the model. Repeatable. \\[default: the column of "
            "its name]",
            rich_help_panel=_TABLES,
        ),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUTPUT=COLUMN",
            help="The column for an output of the model. Repeatable; leaves out others. "
            "\\[default: all, under their own names]",
            rich_help_panel=_TABLES,
        ),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="An input column that the output has, too; * for all. Repeatable.",
            rich_help_panel=_TABLES,
        ),
    ] = None
    rows: Annotated[
        int, typer.Option(min=1, max=65536, help="Rows of one request.", rich_help_panel=_TABLES)
    ] = 256
    part: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, help="Pictures of one output table.", rich_help_panel=_TABLES
        ),
    ] = 1000
    on_error: Annotated[
        OnError,
        typer.Option(
            help="A bad record fails its object, or is set aside in NAME.errors.jsonl.",
            rich_help_panel=_ERRORS,
        ),
    ] = OnError.FAIL
    errors_max: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="With --on-error skip: more bad records than these fail the job. "
            "\\[default: no limit]",
            rich_help_panel=_ERRORS,
        ),
    ] = None
    concurrency: Annotated[
        int,
        typer.Option(
            min=0,
            max=4096,
            metavar="N",
            help="Requests at a time; 0 for as many as make it quick.",
            rich_help_panel=_ERRORS,
        ),
    ] = 0
    timeout: Annotated[
        str,
        typer.Option(metavar="DURATION", help="Of one request.", rich_help_panel=_ERRORS),
    ] = "10m"
    retries: Annotated[
        int,
        typer.Option(min=0, max=100, help="Of one request.", rich_help_panel=_ERRORS),
    ] = 3
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Begin anew, whatever an unfinished run has left in --output.",
            rich_help_panel=_ERRORS,
        ),
    ] = False
    repository: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Where MODEL is looked for by name. Repeatable.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    image: Annotated[
        str,
        typer.Option(
            help="The SageMaker image that the archive was made for, which says how it is read.",
            rich_help_panel=_MODEL,
        ),
    ] = ""
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A variable of an archive's container. Repeatable.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    instances: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            help="Replicas, a factor of what an archive says.",
            rich_help_panel=_MODEL,
        ),
    ] = 1
    on: Annotated[
        On,
        typer.Option(
            help="This machine, or a Ray cluster (needs hostler\\[ray]).", rich_help_panel=_WHERE
        ),
    ] = On.LOCAL
    ray_address: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Of the cluster. \\[default: RAY_ADDRESS, else the one this machine is of, else "
            "a new one on this machine]",
            rich_help_panel=_WHERE,
        ),
    ] = ""
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            max=10_000,
            help="Actors on the cluster, each with the whole model; 0 for one a node.",
            rich_help_panel=_WHERE,
        ),
    ] = 0
    worker_cpus: Annotated[
        float,
        typer.Option(
            min=0,
            help="CPUs that each of them asks Ray for; 0 for all of a node's.",
            rich_help_panel=_WHERE,
        ),
    ] = 0
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan as JSON, and do nothing.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False
