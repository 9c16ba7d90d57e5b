"""Actors on a Ray cluster. The only file that knows Ray, which places and restarts them.

An actor's process imports this file, so all nodes have hostler, and the same one. It has one
`Node`, made by a factory that is named by its import path; what goes to it and back is bytes, and
errors are data, never pickles.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hostler import __version__
from hostler.core import Code, HostlerError, Report
from hostler.placement.actors import ActorLost, Node
from hostler.placement.host import usable_cores
from hostler.placement.posts import ClusterNode, Post

__all__ = ["RayActor", "RayCluster", "mapped"]

_UNTYPED: Final[Any] = ray  # some of its functions have no types

_REACH_TIMEOUT_S: Final = 10.0
"""To connect to a cluster's address; Ray itself would try for more than a minute."""

_CANCEL_TIMEOUT_S: Final = 15.0
_CLOSE_TIMEOUT_S: Final = 30.0
_STORE_BYTES: Final = 80 << 20  # the least that Ray takes: only small messages go through it
_WORDS_MAX: Final = 300


class _Said(NamedTuple):
    """What an actor answers: bytes, or an error's code and message."""

    answer: bytes = b""
    code: str = ""
    message: str = ""


class _Host:
    """What runs in an actor's process. `factory`: `module:function`, given `setup`."""

    def __init__(self, factory: str, setup: bytes) -> None:
        self._factory = factory
        self._setup = setup
        self._node: Node | None = None
        self._loading: asyncio.Task[bytes] | None = None

    async def placed(self) -> tuple[str, str]:
        """The version of hostler here, and the machine's name."""
        return __version__, socket.gethostname()

    async def load(self) -> _Said:
        """See `Node`."""
        return await _told(self._loaded())

    async def call(self, payload: bytes) -> _Said:
        """See `Node`. A process that has come anew loads first."""
        return await _told(self._call(payload))

    async def close(self) -> None:
        """See `Node`."""
        if self._node is not None:
            node, self._node = self._node, None
            await node.close()

    async def _loaded(self) -> bytes:
        if self._loading is None:
            module, _, name = self._factory.partition(":")
            self._node = getattr(importlib.import_module(module), name)(self._setup)
            assert self._node is not None
            self._loading = asyncio.create_task(self._node.load())
        return await asyncio.shield(self._loading)

    async def _call(self, payload: bytes) -> bytes:
        await self._loaded()
        assert self._node is not None
        return await self._node.call(payload)


async def _told(work: Awaitable[bytes]) -> _Said:
    try:
        return _Said(await work)
    except HostlerError as error:
        return _Said(b"", error.code.value, error.message)


class RayActor:
    """See `actors.Actor`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def placed(self) -> str:
        """See `actors.Actor`. Raises: UNIMPLEMENTED where there is another hostler."""
        version, host = await _result(self._handle.placed.remote())
        if version != __version__:
            raise HostlerError(
                Code.UNIMPLEMENTED,
                f"{host} has hostler {version}, and here is {__version__}; install the same on all "
                "nodes of the cluster",
            )
        return str(host)

    async def load(self) -> bytes:
        """See `actors.Actor`."""
        return _answer(await _result(self._handle.load.remote()))

    async def call(self, payload: bytes) -> bytes:
        """See `actors.Actor`."""
        return _answer(await _result(self._handle.call.remote(payload)))

    async def close(self) -> None:
        """See `actors.Actor`."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await _result(self._handle.close.remote())
        except (TimeoutError, ActorLost, HostlerError):
            pass  # it is gone, or hangs: it is killed

    def kill(self) -> None:
        """See `actors.Actor`."""
        ray.kill(self._handle, no_restart=True)


async def _result(reference: Any) -> Any:
    """What a call gives. Cancelled here, it is cancelled there, and has ended or takes too long."""
    future = asyncio.wrap_future(reference.future())
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        ray.cancel(reference)
        await asyncio.wait([future], timeout=_CANCEL_TIMEOUT_S)
        if future.done() and not future.cancelled():
            future.exception()  # it is known, and nobody wants it
        raise
    except exceptions.RayError as error:
        raise mapped(error) from None


def _answer(said: Sequence[Any]) -> bytes:
    answer, code, message = said
    if code:
        raise HostlerError(Code(code), message)
    return bytes(answer)


_LOST: Final = (
    exceptions.ActorUnavailableError,
    exceptions.LocalRayletDiedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,  # an answer that was lost with its node
    exceptions.OutOfMemoryError,  # Ray has killed the process; it starts it anew
    exceptions.RpcError,
    exceptions.WorkerCrashedError,
)
_REFUSED: Final = (
    exceptions.ActorUnschedulableError,
    exceptions.ObjectStoreFullError,
    exceptions.OutOfDiskError,
    exceptions.PendingCallsLimitExceeded,
    exceptions.TaskUnschedulableError,
)


def mapped(error: exceptions.RayError) -> ActorLost | HostlerError:
    """What an error of Ray's means for us."""
    said = _words(error)
    if isinstance(error, _LOST):
        return ActorLost(said)
    if isinstance(error, exceptions.RayTaskError):  # our own code in the actor
        return HostlerError(Code.INTERNAL, f"an actor failed: {said}; see Ray's logs")
    if isinstance(error, exceptions.AuthenticationError):
        return HostlerError(Code.UNAUTHENTICATED, f"the Ray cluster refuses us: {said}")
    if isinstance(error, _REFUSED):
        return HostlerError(Code.RESOURCE_EXHAUSTED, f"the Ray cluster has no room: {said}")
    if isinstance(error, exceptions.RayActorError):
        return HostlerError(
            Code.UNAVAILABLE,
            f"an actor is gone for good: {said}; if its process cannot import hostler, install "
            f"hostler[ray] {__version__} on all nodes of the cluster",
        )
    return HostlerError(Code.UNAVAILABLE, f"the Ray cluster fails: {said}")


def _words(error: BaseException) -> str:
    """The line of a message that says most: of a traceback the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    is_trace = any(line.startswith(("Traceback", "File ")) for line in lines)
    return (lines[-1] if is_trace else lines[0])[:_WORDS_MAX]


class RayCluster:
    """A connection to a cluster, from `connect` to `close`. `address`: of its head."""

    def __init__(self, address: str) -> None:
        self.address = address

    @classmethod
    def connect(cls, address: str, *, debug: bool, report: Report) -> RayCluster:
        """Join a cluster; blocks for seconds. Main thread only: Ray sets signal handlers.

        `address`: HOST:PORT; "" for the one that this machine is a node of, else a new one that is
        gone after `close`. `debug`: show what actors print.
        Raises: HostlerError that says what to mend.
        """
        if address not in ("", "auto", "local"):
            _check_reach(address)
        options: dict[str, Any] = {"log_to_driver": debug, "configure_logging": debug}
        report(f"joining the Ray cluster{f' at {address}' if address else ''}")
        try:
            if address != "local":
                try:
                    ray.init(address=address or "auto", **options)
                except ConnectionError:
                    if address:
                        raise
                    address = "local"
            if address == "local":
                report("no Ray cluster is running here: starting one on this machine")
                # Whoever reaches a Ray cluster may run anything on it. Ray 2.60 listens on the
                # host's address in spite of this one, and wants a token of this user's.
                ray.init(
                    address="local", num_cpus=usable_cores(), include_dashboard=False,
                    object_store_memory=_STORE_BYTES, _node_ip_address="127.0.0.1", **options,
                )  # fmt: skip
        except (exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            words = " ".join(str(error).split())[:_WORDS_MAX]
            raise HostlerError(
                Code.UNAVAILABLE,
                f"the Ray cluster{f' at {address}' if address else ''} cannot be joined: {words}",
            ) from None
        cluster = cls(str(ray.get_runtime_context().gcs_address))
        nodes = cluster.nodes()
        report(f"on the Ray cluster at {cluster.address}: {len(nodes)} nodes, {_cpus(nodes)} CPUs")
        return cluster

    def nodes(self) -> list[ClusterNode]:
        """Those that live."""
        return [
            ClusterNode(
                str(node["NodeID"]),
                str(node["NodeManagerHostname"]),
                float(node["Resources"].get("CPU", 0.0)),
            )
            for node in _UNTYPED.nodes()
            if node["Alive"]
        ]

    def actors(self, asked: Sequence[tuple[Post, str, bytes]]) -> list[RayActor]:
        """Ask for actors, which come in time: each with the factory of its `Node` and its set-up.

        A factory is `module:function`, which is given the set-up.
        """
        made = []
        for post, factory, setup in asked:
            # To a node by name only as long as that lives; then wherever there is room.
            where = NodeAffinitySchedulingStrategy(post.node, soft=True) if post.node else "SPREAD"
            handle = (
                ray.remote(_Host)
                .options(num_cpus=post.cpus, max_restarts=-1, scheduling_strategy=where)
                .remote(factory, setup)
            )
            made.append(RayActor(handle))
        return made

    def room(self, posts: Sequence[Post]) -> str:
        """What was asked for and what there is, in words."""
        nodes = self.nodes()
        free = _UNTYPED.available_resources().get("CPU", 0.0)
        largest = max((node.cpus for node in nodes), default=0.0)
        each = sorted({post.cpus for post in posts})
        sizes = f"{each[0]:g}" if len(each) == 1 else f"{each[0]:g} to {each[-1]:g}"
        return (
            f"asked for {len(posts)} actors of {sizes} CPUs; the cluster has {len(nodes)} nodes of "
            f"at most {largest:g} CPUs, and {free:g} of {_cpus(nodes)} CPUs are free"
        )

    def close(self) -> None:
        """Leave it; blocks for seconds. One that `connect` started ends."""
        ray.shutdown()


def _cpus(nodes: Sequence[ClusterNode]) -> str:
    return f"{sum(node.cpus for node in nodes):g}"


def _check_reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"'{address}' is no address of a Ray cluster; HOST:PORT of its head is expected, from "
            "one of its nodes (elsewhere, use `ray job submit`)",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise HostlerError(
            Code.UNAVAILABLE,
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or "
            "give --ray-address another",
        ) from None
