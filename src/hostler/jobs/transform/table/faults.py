"""Rows that were set aside, as JSON Lines beside the output of their table. Pure.

    {"record": 17, "code": "INVALID_ARGUMENT", "error": "...", "data": {"x": null, "id": 3}}

`record`: index of the row in its object, from 0; of a picture, in its part. `data`: of JSON Lines
the line as it stands, else the columns that were read, or a line's text where it could not be; of a
large one the beginning of that text, or of its JSON, as a text with `truncated`.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from hostler.core import HostlerError
from hostler.jobs.transform.setaside import DATA_BYTES_MAX
from hostler.jobs.transform.table.chunks import Fault
from hostler.jobs.transform.table.writers import JSON_OPTIONS, plain

__all__ = ["fault_error", "fault_line"]

_ERROR_CHARS_MAX: Final = 4096


def fault_line(fault: Fault) -> bytes:
    """The line of a row, with its end."""
    row: dict[str, Any] = {
        "record": fault.row,
        "code": fault.code.value,
        "error": fault.reason[:_ERROR_CHARS_MAX],
        "data": fault.values,
    }
    if isinstance(fault.values, str):
        data = fault.values.encode()
    else:
        data = orjson.dumps(fault.values, default=plain, option=JSON_OPTIONS)
    if len(data) > DATA_BYTES_MAX:
        row["data"] = data[:DATA_BYTES_MAX].decode(errors="ignore")
        row["truncated"] = True
    return orjson.dumps(row, default=plain, option=JSON_OPTIONS) + b"\n"


def fault_error(fault: Fault) -> HostlerError:
    """For a table that fails with its first bad row."""
    return HostlerError(
        fault.code,
        f"record {fault.row} (from 0): {fault.reason}; mend it, or have bad records skipped",
        details={"record": fault.row},
    )
