"""Where Arrow comes from: loaded by the first table, as it takes 0.1 s and 50 MB. Pure."""

from __future__ import annotations

from typing import Any

from hostler.core import Code, HostlerError

__all__ = ["arrow", "compute", "parquet"]


def arrow() -> Any:
    """The module pyarrow. Raises: UNIMPLEMENTED where it is not installed."""
    try:
        import pyarrow as found  # noqa: PLC0415 - optional, and loaded by the first table
    except ImportError:
        raise _missing() from None
    return found


def compute() -> Any:
    """pyarrow.compute. Raises: as `arrow`."""
    try:
        import pyarrow.compute as found  # noqa: PLC0415 - optional, and loaded by the first table
    except ImportError:
        raise _missing() from None
    return found


def parquet() -> Any:
    """pyarrow.parquet. Raises: as `arrow`."""
    try:
        import pyarrow.parquet as found  # noqa: PLC0415 - optional, and loaded by the first table
    except ImportError:
        raise _missing() from None
    return found


def _missing() -> HostlerError:
    return HostlerError(
        Code.UNIMPLEMENTED,
        "tables need Arrow, which is not installed; run: pip install 'hostler[parquet]'",
    )
