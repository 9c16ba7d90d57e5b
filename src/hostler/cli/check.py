"""`hostler check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hostler import app
from hostler.cli.options import existing, with_settings
from hostler.cli.output import Column, print_json, print_table
from hostler.cli.progress import progress
from hostler.config import Resolved, Settings, format_bytes, format_seconds

__all__ = ["command"]

_COLUMNS = (
    Column("MODEL"),
    Column("VERSION", number=True),
    Column("RUNTIME"),
    Column("RESULT"),
    Column("LOAD", number=True),
    Column("MEMORY", number=True),
    Column("ERROR", wide=True),
)


@with_settings()
def command(
    resolved: Resolved[Settings],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Model repositories or single files.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Load and warm every model without opening a port; exit code 1 if any of them fails.

    [bold]hostler check ./models[/bold]
    """
    folders = existing(paths)
    with progress() as say:
        rows = app.check(resolved.settings, folders, say)
    if as_json:
        fields = ("name", "version", "runtime", "ok", "load_s", "footprint_bytes", "error")
        print_json([{field: getattr(row, field) for field in fields} for row in rows])
    else:
        print_table(
            _COLUMNS,
            [
                (
                    row.name,
                    str(row.version or "-"),
                    row.runtime or "-",
                    "ok" if row.ok else "failed",
                    format_seconds(row.load_s) if row.ok else "-",
                    format_bytes(row.footprint_bytes) if row.ok else "-",
                    row.error or "",
                )
                for row in rows
            ],
            empty="No models found; a repository holds <model>/<version>/model.onnx.",
        )
    return 0 if rows and all(row.ok for row in rows) else 1
