"""How the outputs of tables are called. Pure.

A table's output has the input's whole name before it, so that no two inputs share one and none is
an input, and its form's suffix at the end, where tools look for it: `a.csv` -> `a.csv.out.parquet`.
"""

from __future__ import annotations

from typing import Final

from hostler.jobs.transform.plan import Table, TableForm

__all__ = ["output_name", "part_name"]

_SUFFIXES: Final = {
    TableForm.PARQUET: ".parquet",
    TableForm.JSON_LINES: ".jsonl",
    TableForm.CSV: ".csv",
}


def output_name(table: Table, name: str) -> str:
    """Of the output of one table. `name`: `ObjectRef.name`."""
    return f"{name}.out{_suffix(table)}"


def part_name(table: Table, index: int) -> str:
    """Of the output of pictures `index * part_objects` and on, in the order of the listing.

    A part is told by its place alone: where pictures were added or removed between two runs of a
    job, those after them are in other parts than before, and whoever resumes must do a part anew
    if its pictures are not the ones that it was made of.
    """
    return f"part-{index:05}.out{_suffix(table)}"


def _suffix(table: Table) -> str:
    return _SUFFIXES.get(table.output_form, ".parquet")
