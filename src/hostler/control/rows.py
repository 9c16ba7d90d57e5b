"""Records as rows of the store, and the store from the loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec

from hostler.control.records import EndpointRecord
from hostler.storage import Resource

__all__ = ["blocking", "endpoint_of", "with_endpoint"]

_T = TypeVar("_T")

_THREADS: Final = ThreadPoolExecutor(8, thread_name_prefix="hostler-control")
"""Its own, so that loads of models never wait for a database. None is started before it is used."""


async def blocking(call: Callable[..., _T], *arguments: Any) -> _T:
    """Call what asks the store, and blocks, in a thread of the control plane.

    Where this is cancelled it ends with the method, so that nobody closes the store under it.
    """
    context = contextvars.copy_context()
    work = asyncio.get_running_loop().run_in_executor(_THREADS, context.run, call, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody is left to take it
        raise


def endpoint_of(resource: Resource) -> EndpointRecord:
    """The record of a row. Raises: msgspec.ValidationError if it is none."""
    return msgspec.convert(resource.document, EndpointRecord)


def with_endpoint(resource: Resource, record: EndpointRecord) -> Resource:
    """The row that is to take the place of the one that was read."""
    return replace(
        resource,
        status=record.status,
        modified_at=record.modified_at,
        document=msgspec.to_builtins(record),
    )
