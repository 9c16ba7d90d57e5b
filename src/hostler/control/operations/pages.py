"""Lists in pages: requests -> queries, and the tokens that lead from one page to the next.

A token says after which row the next page begins, so that rows which come and go meanwhile move
nothing. It is readable by whoever decodes it and holds nothing but what the client has seen.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
import orjson

from hostler.control.operations.desk import Desk, refused
from hostler.control.records import Document
from hostler.core import HostlerError
from hostler.storage import Query, Resource

__all__ = ["Token", "listed", "read_token", "write_token"]

_SORTS: Final = {"Name": "name", "CreationTime": "created_at", "Status": "status"}
_SIZE: Final = 10  # MaxResults where it is not given


class Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended. `order`: of the list; a token is of use in the same order only."""

    order: str
    value: str | float
    name: str


def write_token(token: Token) -> str:
    """As clients get it."""
    return base64.urlsafe_b64encode(orjson.dumps(msgspec.to_builtins(token))).decode().rstrip("=")


def read_token(text: str, order: str) -> Token:
    """As clients send it. Raises: INVALID_ARGUMENT for what no list of this order has given."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        token = msgspec.convert(orjson.loads(data), Token)
    except (binascii.Error, ValueError):  # which msgspec's and orjson's errors are
        raise _invalid_token() from None
    if token.order != order or (isinstance(token.value, str) == order.endswith("_at")):
        raise _invalid_token()
    return token


def _invalid_token() -> HostlerError:
    return refused("Invalid NextToken: use the one of the page before, with the same parameters.")


def listed(
    desk: Desk, kind: str, request: Document, member: str, show: Callable[[Resource], Document]
) -> Document:
    """A page of resources. `member`: of the answer; `show`: one of its elements."""
    query = _query(kind, request)
    order = f"{kind} {'-' if query.descending else '+'}{query.sort_by}"
    if request.get("NextToken"):
        token = read_token(request["NextToken"], order)
        query = replace(query, after=(token.value, token.name))
    size = query.limit
    rows = desk.store.page(replace(query, limit=size + 1))
    answer: Document = {member: [show(row) for row in rows[:size]]}
    if len(rows) > size:
        last = rows[size - 1]
        value = getattr(last, query.sort_by)
        answer["NextToken"] = write_token(Token(order, value, last.name))
    return answer


def _query(kind: str, request: Document) -> Query:
    # AWS: "...TimeAfter" of a creation is not before that time; the store's bounds are exclusive.
    created_after = request.get("CreationTimeAfter")
    return Query(
        kind=kind,
        sort_by=_SORTS[request.get("SortBy", "CreationTime")],
        descending=request.get("SortOrder", "Descending") == "Descending",
        limit=int(request.get("MaxResults", _SIZE)),
        name_contains=request.get("NameContains", ""),
        status=request.get("StatusEquals", ""),
        created_after=None if created_after is None else math.nextafter(created_after, -math.inf),
        created_before=request.get("CreationTimeBefore"),
        modified_after=request.get("LastModifiedTimeAfter"),
        modified_before=request.get("LastModifiedTimeBefore"),
    )
