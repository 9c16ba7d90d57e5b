"""What outputs are called. Pure.

    s3://in/data/ + a/x.csv  ->  s3://out/prefix/ + a/x.csv.out           of records
                                 s3://out/prefix/ + a/x.csv.out.parquet   of a table
                                 s3://out/prefix/ + a/x.csv.errors.jsonl  what was set aside

Source: CreateTransformJob, S3OutputPath; names as the local mode of SageMaker's SDK makes them.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote, unquote

from hostler.jobs.transform.plan import Naming, Plan

__all__ = [
    "errors_key",
    "folder_of",
    "is_errors",
    "is_marker",
    "is_output",
    "marker_name",
    "output_name",
    "place_of",
    "relative_name",
    "shown",
    "url_of",
    "whole_key",
]

_MARKER: Final = re.compile(r"(.*/)?\.hostler-transform-[0-9a-f]{12}\.json", re.DOTALL)
_OUT: Final = ".out"
_ERRORS: Final = ".errors.jsonl"
_TABLES: Final = (".parquet", ".jsonl", ".csv")


def folder_of(key: str) -> str:
    """The key of an output URL as the prefix of outputs: with a slash, "" for a whole store."""
    return f"{key.rstrip('/')}/" if key.strip("/") else ""


def place_of(url: str) -> str:
    """Scheme and bucket or host: objects of one place have one clock and one namespace.

    All files are of one place, whichever of their URLs names them.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    return "file://" if scheme == "file" else f"{scheme}://{rest.partition('/')[0]}"


def whole_key(url: str) -> str:
    """What follows the place in a URL: of files the path without its first slash."""
    scheme, _, rest = url.partition("://")
    key = rest.partition("/")[2]
    return unquote(key) if scheme.lower() == "file" else key


def shown(url: str) -> str:
    """A URL for messages and logs: without what a web address has after `?`, often a signature."""
    return url.partition("?")[0] if url.lower().startswith("http") else url


def relative_name(prefix: str, key: str, naming: Naming) -> str:
    """What an object's output is called, without its ending.

    RELATIVE: the key below the prefix. A prefix that ends a folder's name counts as that folder;
    one that cuts a name, as in `data/part-`, or is a whole key, counts up to its last slash.
    FOLDER: all of the key from the last part of the prefix on.
    """
    if naming is Naming.FOLDER:
        return key[prefix.rstrip("/").rfind("/") + 1 :]
    rest = key[len(prefix) :]
    if rest and (not prefix or prefix.endswith("/")):
        return rest
    return rest[1:] if rest.startswith("/") else key[prefix.rfind("/") + 1 :]


def url_of(url: str, key: str, other: str) -> str:
    """The URL of an object for people, who paste it. `key`: what `url` names in the same store."""
    above = whole_key(shown(url)).rstrip("/").removesuffix(key.rstrip("/"))
    whole = f"{above.rstrip('/')}/{other}" if above else other
    place = place_of(url)
    return f"{place}/{quote(whole) if place == 'file://' else whole}"


def marker_name(plan: Plan) -> str:
    """The name of the object that says that a job of the plan's place is unfinished.

    A place is what is read, where its outputs go and what they are called: jobs of one place write
    the same objects. Those of others never meet, also where they have one output URL.
    """
    read, written = plan.input.url, plan.output.url
    place = [
        f"{place_of(read)}/{whole_key(read)}",
        plan.input.source.value,
        f"{place_of(written)}/{folder_of(whole_key(written))}",
        plan.output.naming.value,
    ]
    digest = hashlib.sha256("\n".join(place).encode()).hexdigest()
    return f".hostler-transform-{digest[:12]}.json"


def is_marker(key: str) -> bool:
    """Whether a key is called as markers are."""
    return _MARKER.fullmatch(key) is not None


def output_name(name: str) -> str:
    """Of the output of an object of records."""
    return f"{name}{_OUT}"


def errors_key(output: str) -> str:
    """Where the records go that were set aside for an output. `output`: its key."""
    for tail in _TABLES:
        output = output.removesuffix(tail)
    return f"{output.removesuffix(_OUT)}{_ERRORS}"


def is_output(key: str) -> bool:
    """Whether a key is called as outputs are."""
    return key.endswith((_OUT, *(f"{_OUT}{tail}" for tail in _TABLES)))


def is_errors(key: str) -> bool:
    """Whether a key is called as set-aside records are."""
    return key.endswith(_ERRORS)
