"""Which objects a job reads, and what it makes of them.

CHOICE: of a folder (`file://`) what is hidden is no input, that is every name with a part that
begins with a dot below the input URL: `.DS_Store`, `.ipynb_checkpoints/x.csv`. Of a bucket it is,
as SageMaker reads all keys. Markers of jobs are inputs nowhere, and names in a manifest always.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import msgspec

from hostler.core import Code, HostlerError
from hostler.jobs.transform.guess import guess
from hostler.jobs.transform.naming import (
    folder_of,
    is_errors,
    is_marker,
    is_output,
    output_name,
    place_of,
    relative_name,
    shown,
    url_of,
    whole_key,
)
from hostler.jobs.transform.patience import PASSING, long_pause_s, patiently
from hostler.jobs.transform.plan import Input, Naming, Plan, Source, TableForm
from hostler.jobs.transform.ports import ObjectRef, Outcome, Stores, Task
from hostler.jobs.transform.table.naming import output_name as table_name
from hostler.jobs.transform.table.naming import part_name
from hostler.storage import ObjectStat, ObjectStore

__all__ = ["MANIFEST_BYTES_MAX", "first_name", "tasks"]

MANIFEST_BYTES_MAX: Final = 64 << 20
"""Of a list of objects, which is held in memory: some hundred thousand names."""

_NAMES_MAX: Final = 2_000_000
"""Names of one byte each would take twenty times the memory that they have as JSON."""

_STATS_AT_A_TIME: Final = 32
_LOOKED_AT_MAX: Final = 100  # objects, for one whose name tells something
_WRONG_ENTRY: Final = re.compile(r"\$\[([0-9]+)\]")  # in an error of msgspec


async def first_name(wanted: Input, output: str, stores: Stores, retries_max: int = 0) -> str:
    """The key of the first object that a job would read whose name tells what is in it.

    See `guess`; the very first one where none of the first 100 tells. `output`: the output URL.
    Raises: NOT_FOUND; as `tasks`.
    """
    first = ""
    async with aclosing(_names(wanted, output, stores, retries_max)) as names:
        async for name in names:
            if guess(name) is not None:
                return name
            first = first or name
    if not first:
        raise _nothing(wanted.url)
    return first


async def _names(
    wanted: Input, output: str, stores: Stores, retries_max: int
) -> AsyncGenerator[str, None]:
    """The first few."""
    store, key = stores.open(wanted.url)
    if wanted.source is Source.MANIFEST:
        _, names = await patiently(partial(_manifest, store, key, wanted.url), retries_max)
        for name in itertools.islice(names, _LOOKED_AT_MAX):
            yield name
        return
    count = 0
    async with aclosing(_inputs(wanted.url, output, stores, retries_max)) as found:
        async for stat in found:
            yield stat.key
            count += 1
            if count == _LOOKED_AT_MAX:
                return


async def tasks(
    plan: Plan, stores: Stores, retries_max: int = 0
) -> AsyncGenerator[Task | Outcome, None]:
    """What there is to do, in the order of keys, or of the manifest; an Outcome for what cannot be.

    Objects that jobs have written are left out where outputs lie among inputs. `retries_max`: times
    that the store is asked again where it is out of reach.
    Raises: NOT_FOUND if there is nothing at all; INVALID_ARGUMENT for a manifest that is none.
    """
    _, output = stores.open(plan.output.url)
    prefix = folder_of(output)
    count = 0
    pictures: list[ObjectRef] = []
    together = plan.table is not None and plan.table.form is TableForm.IMAGES
    parts = itertools.count()
    async with aclosing(_objects(plan, stores, retries_max)) as objects:
        async for found in objects:
            count += 1
            if isinstance(found, Outcome):
                yield found
            elif plan.table is None:
                yield Task(key=f"{prefix}{output_name(found.name)}", inputs=(found,))
            elif not together:
                yield Task(key=f"{prefix}{table_name(plan.table, found.name)}", inputs=(found,))
            else:
                pictures.append(found)
                if len(pictures) == plan.table.part_objects:
                    yield _part(plan, prefix, next(parts), pictures)
                    pictures = []
    if pictures:
        yield _part(plan, prefix, next(parts), pictures)
    if not count:
        raise _nothing(plan.input.url)


def _part(plan: Plan, prefix: str, index: int, pictures: Sequence[ObjectRef]) -> Task:
    assert plan.table is not None
    return Task(key=f"{prefix}{part_name(plan.table, index)}", inputs=tuple(pictures))


async def _objects(
    plan: Plan, stores: Stores, retries_max: int
) -> AsyncGenerator[ObjectRef | Outcome, None]:
    url, naming = plan.input.url, plan.output.naming
    store, prefix = stores.open(url)
    if plan.input.source is Source.MANIFEST:
        async with aclosing(_of_manifest(plan, stores, retries_max)) as found:
            async for one in found:
                yield one
        return
    is_cut = bool(prefix) and not prefix.endswith("/") and naming is Naming.RELATIVE
    has_folder = is_cut and await _has_any(store, f"{prefix}/", retries_max)
    async with aclosing(_inputs(url, plan.output.url, stores, retries_max)) as found:
        async for stat in found:
            name = relative_name(prefix, stat.key, naming)
            twin = f"{prefix}/{name}"
            look = partial(_exists, store, twin)
            if has_folder and stat.key != twin and await patiently(look, retries_max):
                yield _twins(url, prefix, (stat.key, twin), name)
                continue
            yield _ref(url, stat, name)


async def _inputs(
    url: str, output_url: str, stores: Stores, retries_max: int
) -> AsyncGenerator[ObjectStat, None]:
    """The objects under a prefix that are inputs."""
    store, prefix = stores.open(url)
    is_shared = place_of(url) == place_of(output_url)
    is_files = place_of(url) == place_of("file://")
    whole = whole_key(url)  # of files: settings may have two stores begin in two folders
    above, output = whole.removesuffix(prefix), folder_of(whole_key(output_url))
    async with aclosing(_listed(store, prefix, retries_max)) as listed:
        async for stat in listed:
            is_written = is_shared and _is_written(f"{above}{stat.key}", whole, output)
            if is_written or is_marker(stat.key) or (is_files and _is_hidden(prefix, stat.key)):
                continue
            yield stat


async def _listed(
    store: ObjectStore, prefix: str, retries_max: int
) -> AsyncGenerator[ObjectStat, None]:
    """All objects under a prefix; of one that is an object's whole key, that object alone.

    A listing that breaks off is begun anew, without what it has told by then.
    """
    last, seen, tries = "", "", 0
    while True:
        try:
            async for stat in store.list(prefix):
                if seen and stat.key <= seen:
                    continue
                last, tries = stat.key, 0
                yield stat
                if stat.key == prefix:
                    return
            return
        except HostlerError as error:
            if error.code not in PASSING or tries >= retries_max:
                raise
        seen = last
        await asyncio.sleep(long_pause_s(tries))
        tries += 1


async def _has_any(store: ObjectStore, prefix: str, retries_max: int) -> bool:
    async with aclosing(_listed(store, prefix, retries_max)) as found:
        return await anext(found, None) is not None


async def _exists(store: ObjectStore, key: str) -> bool:
    try:
        await store.stat(key)
    except HostlerError as error:
        if error.code is Code.NOT_FOUND:
            return False
        raise
    return True


def _is_written(key: str, prefix: str, output: str) -> bool:
    """Whether an object under the input prefix is none of the input."""
    if not key.startswith(output):
        return False
    if not prefix.startswith(output):
        return True  # the folder of outputs lies inside that of inputs
    return is_output(key) or is_errors(key)


def _is_hidden(prefix: str, key: str) -> bool:
    """Whether a file's name below the prefix has a part that begins with a dot."""
    rest = key[len(prefix) :]
    begins_part = not prefix or prefix.endswith("/")
    return "/." in rest or (begins_part and rest.startswith("."))


def _twins(url: str, prefix: str, keys: tuple[str, str], name: str) -> Outcome:
    """`url`: of both, whose key `prefix` is. The first of the two is left out."""
    first, second = (url_of(url, prefix, key) for key in keys)
    return Outcome(
        key=keys[0],
        code=Code.INVALID_ARGUMENT,
        error=f"{first} and {second} would have one output, {name}; end the input URL, or the "
        "manifest's prefix, with a slash to take those of the folder alone",
    )


def _ref(url: str, stat: ObjectStat, name: str) -> ObjectRef:
    return ObjectRef(
        url=url, key=stat.key, name=name, size=stat.size, etag=stat.etag, modified=stat.modified
    )


# -- manifests: [{"prefix": "s3://bucket/folder/"}, "name", ...] ------------------------------


async def _of_manifest(
    plan: Plan, stores: Stores, retries_max: int
) -> AsyncGenerator[ObjectRef | Outcome, None]:
    """Source: SageMaker API Reference, S3DataSource, ManifestFile."""
    url = plan.input.url
    store, key = stores.open(url)
    base, names = await patiently(partial(_manifest, store, key, url), retries_max)
    source, prefix = _opened(stores, base, url)
    left = iter(names)
    keys: dict[str, str] = {}  # by the outputs' names: of a prefix that cuts a name, two may agree
    while chunk := list(itertools.islice(left, _STATS_AT_A_TIME)):
        looks = (partial(source.stat, f"{prefix}{name}") for name in chunk)
        stats = await asyncio.gather(
            *(patiently(look, retries_max) for look in looks), return_exceptions=True
        )
        first = stats[0]
        if isinstance(first, HostlerError) and all(_is_away(stat) for stat in stats):
            raise first  # else each chunk would wait as long
        for name, stat in zip(chunk, stats, strict=True):
            if isinstance(stat, HostlerError):
                yield Outcome(key=f"{prefix}{name}", error=stat.message, code=stat.code)
            elif isinstance(stat, BaseException):
                raise stat
            else:
                called = relative_name(prefix, stat.key, plan.output.naming)
                if keys.setdefault(called, stat.key) != stat.key:
                    yield _twins(base, prefix, (stat.key, keys[called]), called)
                else:
                    yield _ref(base, stat, called)


def _is_away(found: object) -> bool:
    return isinstance(found, HostlerError) and found.code in PASSING


def _opened(stores: Stores, base: str, manifest: str) -> tuple[ObjectStore, str]:
    try:
        return stores.open(base)
    except HostlerError as error:
        raise HostlerError(
            error.code, f"entry 0 of the manifest {shown(manifest)}: {error.message}"
        ) from None


async def _manifest(store: ObjectStore, key: str, url: str) -> tuple[str, Iterator[str]]:
    """Its prefix, and each name once. Read in a thread: a long one takes a second."""
    body = await store.get(key, bytes_max=MANIFEST_BYTES_MAX)
    return await asyncio.to_thread(_entries, body, url)


def _entries(body: bytes, url: str) -> tuple[str, Iterator[str]]:
    if body.count(b",") > _NAMES_MAX:
        raise _no_manifest(url, f"it has more than {_NAMES_MAX} names; make several of it")
    try:
        entries = msgspec.json.decode(body, type=list[str | dict[str, str]])
    except msgspec.ValidationError as error:
        found = _WRONG_ENTRY.search(str(error))
        what = "it is no array with entries"
        if found:
            what = f"its entry {found[1]} is neither a prefix nor an object's name"
        raise _no_manifest(url, f"{what} ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_manifest(url, f"it is no JSON ({error})") from None
    if not entries:
        raise _no_manifest(url, "it is no array with entries")
    first = entries[0]
    if not isinstance(first, dict) or list(first) != ["prefix"]:
        raise _no_manifest(url, "its entry 0 is not an object with the one key 'prefix'")
    if not first["prefix"]:
        raise _no_manifest(url, "the prefix in its entry 0 is empty")
    names: dict[str, None] = {}
    for index, entry in enumerate(entries[1:], 1):
        if not isinstance(entry, str) or not entry:
            raise _no_manifest(url, f"its entry {index} is {_kind(entry)}, not an object's name")
        names[entry] = None
    return first["prefix"], iter(names)


def _kind(entry: Any) -> str:
    return "empty" if entry == "" else msgspec.json.encode(entry)[:60].decode(errors="replace")


def _no_manifest(url: str, reason: str) -> HostlerError:
    return HostlerError(
        Code.INVALID_ARGUMENT,
        f'{shown(url)} is no manifest: {reason}; it must be [{{"prefix": "s3://bucket/folder/"}}, '
        '"name", ...]',
    )


def _nothing(url: str) -> HostlerError:
    return HostlerError(
        Code.NOT_FOUND, f"No objects found under {shown(url)}; check the input's URL and its source"
    )
