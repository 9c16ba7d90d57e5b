"""What an earlier run of a job has left, told from the outputs themselves.

A marker lies beside the outputs while a job is unfinished; its name tells the job's place, see
`marker_name`, so that jobs of other places may have the same output URL. Outputs appear whole, so
one that is not older than the marker is finished; nothing else is remembered, and nothing can
disagree. Times are compared within the store of the outputs alone: no clock of ours is asked.

CHOICE: a job of the same place with other options or another model takes it over where no output
has appeared since, as a mistyped option must not stand in the way of the right one; else it is
refused. What others have put under the same output URL meanwhile counts, too: nobody can tell it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hostler.core import Code, HostlerError
from hostler.jobs.transform.naming import (
    errors_key,
    is_errors,
    is_output,
    marker_name,
    place_of,
    shown,
    url_of,
)
from hostler.jobs.transform.plan import Errors, Plan, Split
from hostler.jobs.transform.ports import Task
from hostler.storage import ObjectStore

__all__ = ["Before", "begin", "digest", "end"]

_FORMAT: Final = 1
_PROBE: Final = b"null"  # no marker yet: its time may be that of outputs of another job
_BYTES_MAX: Final = 64 << 10
_SHOWN_MAX: Final = 200
_TRIES_MAX: Final = 12
_PAUSE_S: Final = 0.02
_PAUSE_MAX_S: Final = 1.0  # what S3 tells of times are whole seconds


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    """`plan`: see `digest`. `token`: of the model. `name`, `input`: for people."""

    format: int
    plan: str
    token: str
    name: str
    input: str


@dataclass(slots=True)
class Before:
    """What is there.

    `since`: when the job was begun, by the store. `modified`: of outputs and set-aside records that
    are not older, by their keys. `stale`: keys of older set-aside records.
    """

    since: float = 0.0
    modified: dict[str, float] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)

    def is_done(self, plan: Plan, task: Task) -> bool:
        """Whether a task was finished by an earlier run.

        An object that has changed since is not, where its store and that of the output have one
        clock. Outputs that lack records do for a plan that sets bad ones aside, else they do not.
        """
        if not self.modified:
            return False
        errors = self.modified.get(errors_key(task.key))
        written = self.modified.get(task.key)
        if plan.errors.skip and plan.table is None and plan.split is Split.NONE:
            written = written if errors is None else errors  # bad objects have no output
        elif errors is not None and not plan.errors.skip:
            return False
        if written is None:
            return False
        same = place_of(task.inputs[0].url) == place_of(plan.output.url)
        return not same or all(ref.modified <= written for ref in task.inputs)

    def left_over(self, task: Task) -> str:
        """The key of set-aside records that are of no output any more, "" for none."""
        key = errors_key(task.key)
        return key if key in self.stale or key in self.modified else ""


def digest(plan: Plan) -> str:
    """Of all in a plan that decides what outputs hold; plans of one digest go on with each other's.

    How bad records are treated is not in it: see `Before.is_done`.
    """
    same = msgspec.structs.replace(
        plan, name="", concurrency=0, timeout_s=0.0, retries_max=0, errors=Errors()
    )
    return hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()


async def begin(store: ObjectStore, prefix: str, plan: Plan, token: str, *, fresh: bool) -> Before:
    """Go on with a job, or begin one. `prefix`: of its outputs. `fresh`: begin, in any case.

    May be called again after an error. Raises: ALREADY_EXISTS where a job of this place is
    unfinished that has other outputs, and some of them are there; what the store does.
    """
    await store.sweep(prefix)
    key = f"{prefix}{marker_name(plan)}"
    mark = _Marker(
        format=_FORMAT, plan=digest(plan), token=token, name=plan.name, input=shown(plan.input.url)
    )
    found = None if fresh else await _found(store, key)
    if found is None:
        return await _new(store, prefix, plan, mark)
    other = _difference(found, mark)
    before = await _left(store, prefix, key)
    if not other:
        return before
    if isinstance(found, str) or before.modified:
        raise HostlerError(
            Code.ALREADY_EXISTS,
            f"{url_of(plan.output.url, prefix, key)} lies where this job's outputs go: {other}; "
            "choose another output, or remove that object or begin anew (--fresh) to write over "
            "what there is",
        )
    return await _new(store, prefix, plan, mark)


async def end(store: ObjectStore, prefix: str, plan: Plan) -> None:
    """All is done: what is begun next is a new job."""
    await store.delete(f"{prefix}{marker_name(plan)}")


async def _left(store: ObjectStore, prefix: str, key: str) -> Before:
    """What has appeared since the marker. `key`: its."""
    before = Before((await store.stat(key)).modified)
    async for stat in store.list(prefix):
        if not _is_written(stat.key):
            continue
        if before.since and stat.modified >= before.since:
            before.modified[stat.key] = stat.modified
        elif is_errors(stat.key):
            before.stale.add(stat.key)
    return before


async def _new(store: ObjectStore, prefix: str, plan: Plan, mark: _Marker) -> Before:
    """Put a marker that is younger than all outputs that are there."""
    newest = ""
    times = {newest: 0.0}
    before = Before()
    async for stat in store.list(prefix):
        if not _is_written(stat.key):
            continue
        if is_errors(stat.key):
            before.stale.add(stat.key)
        if stat.modified > times[newest]:
            newest, times = stat.key, {stat.key: stat.modified}
    key = f"{prefix}{marker_name(plan)}"
    if newest and not await _outlast(store, key, times[newest]):
        raise HostlerError(
            Code.ALREADY_EXISTS,
            f"{url_of(plan.output.url, prefix, newest)} is an output of another job and has a time "
            "in the future, so that it would be taken for a new one; remove it, or choose another "
            "output",
        )
    await store.put(key, msgspec.json.encode(mark))
    before.since = (await store.stat(key)).modified
    return before


async def _outlast(store: ObjectStore, key: str, modified: float) -> bool:
    """Wait until what is put now is younger. A run that ends meanwhile has begun nothing."""
    for tries in range(_TRIES_MAX):
        await store.put(key, _PROBE)
        now = (await store.stat(key)).modified
        if now > modified or not now:
            return True
        await asyncio.sleep(min(_PAUSE_S * 2**tries, _PAUSE_MAX_S))
    await store.delete(key)
    return False


def _is_written(key: str) -> bool:
    return is_output(key) or is_errors(key)


async def _found(store: ObjectStore, key: str) -> _Marker | str | None:
    """The marker, what is there in place of one, or nothing."""
    try:
        body = await store.get(key, bytes_max=_BYTES_MAX)
    except HostlerError as error:
        if error.code is Code.NOT_FOUND:
            return None
        if error.code is Code.RESOURCE_EXHAUSTED:
            return "it cannot be read"
        raise
    if body == _PROBE:
        return None
    try:
        mark = msgspec.json.decode(body, type=_Marker)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "it cannot be read"
    return mark if mark.format == _FORMAT else "another version of hostler has written it"


def _difference(found: _Marker | str, mark: _Marker) -> str:
    """What is unfinished instead of this job, "" if it is this one."""
    if isinstance(found, str):
        return found
    if found.plan != mark.plan:
        return f"{_job(found)}, with other options, is unfinished here"
    return (
        f"{_job(found)} is unfinished here, with another model" if found.token != mark.token else ""
    )


def _job(found: _Marker) -> str:
    return f"job '{found.name[:_SHOWN_MAX]}' over {found.input[:_SHOWN_MAX]}"
