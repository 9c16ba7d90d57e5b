"""What every operation has on its desk: the store, names and quotas, and how errors are worded.

Operations block and run in threads; what they share is safe for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hostler.control.config import Config
from hostler.control.ports import ENDPOINT, ENDPOINT_CONFIG, MODEL, TRANSFORM_JOB, Observed
from hostler.control.records import Document
from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker import Arns
from hostler.storage import Resource, Resources

__all__ = [
    "TAGS_MAX",
    "Desk",
    "Names",
    "Outcome",
    "changed",
    "check_tag_keys",
    "refused",
    "tags_of",
]

TAGS_MAX: Final = 50
"""Of one resource. Source: SageMaker API Reference, AddTags."""

_WORDS: Final[Mapping[str, str]] = {
    MODEL: "model",
    ENDPOINT_CONFIG: "endpoint configuration",
    ENDPOINT: "endpoint",
    TRANSFORM_JOB: "transform job",
}
_ATTEMPTS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation answers.

    `wake`, `jobs`: endpoints and transform jobs whose driver has something new to look at.
    """

    answer: Document = field(default_factory=dict)
    wake: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


def refused(message: str) -> HostlerError:
    """A request that is valid by its shape, and cannot be meant."""
    return HostlerError(Code.INVALID_ARGUMENT, message)


class Names:
    """Which names are taken, and how many: names differ by more than case, as ARNs are lower-case.

    Read from the store once for each kind. The driver removes endpoints by itself, so that a name
    found here is looked up before it is believed.
    """

    def __init__(self, store: Resources) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._taken: dict[str, dict[str, str]] = {}

    def add(self, resource: Resource, tags: Mapping[str, str], most: int) -> None:
        """Write a new one. `most`: of its kind.

        Raises: ALREADY_EXISTS, RESOURCE_EXHAUSTED.
        """
        kind = resource.kind
        with self._lock:
            taken = self._of(kind)
            if self._find(kind, resource.name.lower()) is not None:
                raise _taken(resource)
            if len(taken) >= most:
                del self._taken[kind]
                taken = self._of(kind)
            if len(taken) >= most:
                raise _too_many(kind, most)
            if not self._store.add(resource, tags):
                raise _taken(resource)
            taken[resource.name.lower()] = resource.name

    def find(self, kind: str, lower: str) -> Resource | None:
        """The resource whose name this is in lower case, as in an ARN."""
        with self._lock:
            return self._find(kind, lower)

    def forget(self, kind: str, name: str) -> None:
        """It has been removed."""
        with self._lock:
            self._taken.get(kind, {}).pop(name.lower(), None)

    def _of(self, kind: str) -> dict[str, str]:
        taken = self._taken.get(kind)
        if taken is None:
            taken = {row.name.lower(): row.name for row in self._store.all(kind)}
            self._taken[kind] = taken
        return taken

    def _find(self, kind: str, lower: str) -> Resource | None:
        name = self._of(kind).get(lower)
        row = None if name is None else self._store.get(kind, name)
        if name is not None and row is None:
            del self._taken[kind][lower]
        return row


def _taken(resource: Resource) -> HostlerError:
    if resource.kind == TRANSFORM_JOB:
        return HostlerError(
            Code.ALREADY_EXISTS,
            "Job name must be unique within an AWS account and region, and a job with this name "
            f"already exists ({resource.arn})",
            details={"aws": "ResourceInUse"},
        )
    word = _WORDS[resource.kind]
    return HostlerError(
        Code.ALREADY_EXISTS, f'Cannot create already existing {word} "{resource.arn}".'
    )


def _too_many(kind: str, most: int) -> HostlerError:
    setting = f"control.{kind.replace('-', '_')}s_max"
    return HostlerError(
        Code.RESOURCE_EXHAUSTED,
        f"There are {most} {_WORDS[kind]}s, and no more may be created: remove some, or raise the "
        f"setting {setting}.",
    )


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations work with.

    `wall`: seconds since the epoch. `check_image`: the reader that a container image stands for,
    "" for none. `check_url`: raises what keeps model data from being read there, as far as that
    can be told without asking. `observed`: of the endpoint that the request names, if it shows
    that. `principal`: who asks, None where nobody is asked who he is. `served`: the request names
    a model of the server's own repository, which he may ask, and no model of CreateModel.
    """

    config: Config
    store: Resources
    names: Names
    arns: Arns
    wall: Callable[[], float]
    check_image: Callable[[str], str]
    check_url: Callable[[str], None]
    observed: Observed = field(default_factory=Observed)
    principal: str | None = None
    served: bool = False

    def now(self) -> float:
        """The time to write down: to the millisecond, as clients show it."""
        return round(self.wall(), 3)

    def arn(self, kind: str, name: str) -> str:
        """Of a model, an endpoint configuration, an endpoint or a transform job."""
        return self.arns.of(kind, name)

    def find(self, kind: str, name: str) -> Resource:
        """A resource. Raises: NOT_FOUND as AWS words it."""
        row = self.store.get(kind, name)
        if row is None:
            raise self.missing(kind, name)
        return row

    def missing(self, kind: str, name: str, arn: str = "") -> HostlerError:
        """The error for what is not there. `arn`: as the client wrote it."""
        said = f'Could not find {_WORDS[kind]} "{arn or self.arn(kind, name)}".'
        details = {"aws": "ResourceNotFound"} if kind == TRANSFORM_JOB else None
        return HostlerError(Code.NOT_FOUND, said, details=details)

    def remove(self, kind: str, name: str) -> None:
        """Remove a resource that the driver has no part in. Raises: NOT_FOUND."""
        gone = self.store.remove(kind, name)
        self.names.forget(kind, name)
        if not gone:
            raise self.missing(kind, name)


def changed(
    desk: Desk, kind: str, name: str, edit: Callable[[Resource], Resource | None]
) -> Resource:
    """Change a resource as it is when nobody else changes it. `edit`: None leaves it.

    Raises: NOT_FOUND; UNAVAILABLE, as ConflictException, if others are always faster.
    """
    for _ in range(_ATTEMPTS_MAX):
        row = desk.find(kind, name)
        edited = edit(row)
        if edited is None:
            return row
        if desk.store.put(edited):
            return edited
    raise HostlerError(
        Code.UNAVAILABLE,
        f'"{desk.arn(kind, name)}" is being changed by others all the time; try again.',
        details={"aws": "ConflictException"},
    )


def tags_of(request: Document) -> dict[str, str]:
    """The tags that come with a Create. Raises: INVALID_ARGUMENT."""
    given = request.get("Tags") or ()
    tags = {tag["Key"]: tag["Value"] for tag in given}
    if len(tags) < len(given):
        keys = [tag["Key"] for tag in given]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise refused(f"Duplicate tag key '{twice}': each key may be given once.")
    check_tag_keys(tags)
    return tags


def check_tag_keys(tags: Mapping[str, str]) -> None:
    """Refuse reserved ones. Raises: INVALID_ARGUMENT."""
    for key in tags:
        if key.lower().startswith("aws:"):
            raise refused(f"Tag key '{key}' is invalid: the prefix aws: is reserved.")
