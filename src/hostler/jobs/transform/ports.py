"""What a transform job needs of others, and what its parts hand to one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from hostler.core import Clock, Code, HostlerError, InferRequest, InferResponse, Signature
from hostler.jobs.config import Config
from hostler.storage import ObjectStore

__all__ = [
    "Model",
    "ObjectRef",
    "Outcome",
    "Payload",
    "Prediction",
    "Runner",
    "Site",
    "Stores",
    "Task",
]


class Stores(Protocol):
    """Where objects are: `storage.Storage`."""

    def open(self, url: str) -> tuple[ObjectStore, str]:
        """The store that a URL names, and the key in it. Raises: INVALID_ARGUMENT, ..."""
        ...


class Site(NamedTuple):
    """Where a job runs."""

    stores: Stores
    config: Config
    clock: Clock


class Payload(NamedTuple):
    """A request's body. `records`: how many it holds."""

    body: bytes
    content_type: str
    accept: str
    records: int = 1


class Prediction(NamedTuple):
    """A model's answer to one payload."""

    body: bytes
    content_type: str


class Model(Protocol):
    """The model of a job, or the containers of its pipeline, behind the scheduler's back door.

    Everything is asked with low priority: requests of clients go first. Loop thread only; what
    computes runs elsewhere.
    """

    async def signature(self) -> Signature | None:
        """Of the model that takes tensors; None where it takes bytes. Raises: what loading does."""
        ...

    async def ask(
        self, payloads: Sequence[Payload], timeout_s: float
    ) -> list[Prediction | HostlerError]:
        """One answer or error for each, in their order; the scheduler joins what it may.

        Of some MiB together at most: they are decoded in one go.
        """
        ...

    async def infer(
        self, requests: Sequence[InferRequest], timeout_s: float
    ) -> list[InferResponse | HostlerError]:
        """The same for tensors; any number of rows."""
        ...


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """An input object. `url`: any that opens its store; `key`: in that store.

    `name`: what its output's name is made of, the key below the input URL.
    """

    url: str
    key: str
    name: str
    size: int
    etag: str
    modified: float


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What makes one output: an object, or for pictures of a table many. `key`: of the output."""

    key: str
    inputs: tuple[ObjectRef, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended. `records`: answered; `skipped`: set aside. `error`: "" if all is well."""

    key: str
    records: int = 0
    skipped: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    error: str = ""
    code: Code | None = None


class Runner(Protocol):
    """Does tasks: in this process, or on the machines of a cluster.

    It counts `records`, `skipped` and `bytes_done` in the job's progress, as they come or at the
    end of a task, and takes back those of one that fails.
    """

    @property
    def slots(self) -> int:
        """How many tasks it takes at a time."""
        ...

    async def run(self, task: Task) -> Outcome:
        """Do one from its first byte to its last; its output appears whole or not at all.

        A task that fails is an outcome. Raises: what ends the whole job.
        """
        ...
