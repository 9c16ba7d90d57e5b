"""Clients' shared memory: which regions there are, and copying in and out of them.

Nothing is mapped. The memory belongs to a client, who may shrink it at any time, and touching a
page of a mapping that is no longer there is SIGBUS: the end of the server. Reads and writes of the
descriptor merely come out short. So does whatever is read stand still while it is checked and used.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from hostler.core import Code, HostlerError
from hostler.gateway.address import is_loopback
from hostler.gateway.config import Config

__all__ = ["SharedMemory", "SharedRegion", "shared_memory_of"]

FOLDER: Final = "/dev/shm"  # noqa: S108 - where shm_open(3) keeps its objects on Linux

_KEY_BYTES_MAX: Final = 255
# O_NONBLOCK: of a FIFO, which is then refused, nobody waits for the other end.
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class SharedRegion:
    """One registered region; it keeps its memory object open for as long as anybody holds it.

    `offset`: where in the object it starts. `owner`: counts the copies made of it.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: Descriptor
    owner: SharedMemory

    def read(self, offset: int, size: int) -> memoryview:
        """See `oip.Region`."""
        view = self.owner.buffer(self.name, size)
        done, start = 0, self.offset + offset
        try:
            while done < size:
                count = os.preadv(self.descriptor.number, [view[done:]], start + done)
                if not count:
                    raise self._shrunk(offset, size)
                done += count
        except OSError as error:
            raise self._failed("read", error) from None
        return view.toreadonly()

    def write(self, offset: int, data: memoryview) -> None:
        """See `oip.Region`. The object is never made longer than the client made it."""
        done, start = 0, self.offset + offset
        try:
            if start + len(data) > os.fstat(self.descriptor.number).st_size:
                raise self._shrunk(offset, len(data))
            while done < len(data):
                done += os.pwrite(self.descriptor.number, data[done:], start + done)
        except OSError as error:  # pages that were never touched may not be had any more
            raise self._failed("written", error) from None

    def _failed(self, what: str, error: OSError) -> HostlerError:
        return HostlerError(
            Code.INVALID_ARGUMENT,
            f"shared memory region '{self.name}' cannot be {what}: {error.strerror}",
        )

    def _shrunk(self, offset: int, size: int) -> HostlerError:
        left = max(0, os.fstat(self.descriptor.number).st_size - self.offset)
        return HostlerError(
            Code.INVALID_ARGUMENT,
            f"shared memory region '{self.name}' has been shrunk: {size} bytes from {offset} on "
            f"are asked for, but of {self.byte_size} registered bytes {left} are left; make it "
            "anew and register it again",
        )


class Descriptor:
    """An open memory object, closed with the last region or request that holds it."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        weakref.finalize(self, os.close, number).atexit = False


class SharedMemory:
    """The regions that clients have registered. Loop thread only.

    `offered`: whether clients may register any. A request that has found its regions keeps them,
    whatever is unregistered meanwhile. `held_bytes`: copies that requests hold.
    """

    def __init__(self, config: Config, *, offered: bool) -> None:
        self.offered = offered
        self._regions: dict[str, SharedRegion] = {}
        self._regions_max = config.shared_memory_regions_max
        self._tensor_bytes_max = config.body_bytes_max
        self._held_bytes_max = config.bodies_bytes_max
        self._held_bytes = 0
        # The last view of a copy may go in any thread, and deque.append is atomic.
        self._returned: deque[int] = deque()

    @property
    def held_bytes(self) -> int:
        """Bytes of copies that are still in use."""
        while self._returned:
            self._held_bytes -= self._returned.popleft()
        return self._held_bytes

    def region(self, name: str) -> SharedRegion:
        """See `oip.Regions`."""
        found = self._regions.get(name)
        if found is None:
            raise HostlerError(
                Code.NOT_FOUND, f"Unable to find shared memory region: '{name}'; register it first"
            )
        return found

    def status(self, name: str = "") -> list[SharedRegion]:
        """This region, or all of them. Raises: NOT_FOUND."""
        if not name:
            return list(self._regions.values())
        if name not in self._regions:
            raise HostlerError(
                Code.NOT_FOUND, f"Unable to find system shared memory region: '{name}'"
            )
        return [self._regions[name]]

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Make bytes of a memory object known by a name.

        Raises: UNIMPLEMENTED where it is not offered; ALREADY_EXISTS; RESOURCE_EXHAUSTED for one
        too many; INVALID_ARGUMENT for a key that is none of ours or a size beyond the object.
        """
        self._allow()
        if not name:
            raise _cannot(name, "a region needs a name")
        if name in self._regions:
            raise HostlerError(
                Code.ALREADY_EXISTS,
                f"shared memory region '{name}' already in manager; unregister it first",
            )
        if len(self._regions) >= self._regions_max:
            raise HostlerError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(self._regions)} shared memory regions are registered, the limit of "
                "gateway.shared_memory_regions_max; unregister some",
            )
        descriptor = _open(name, key)
        size = os.fstat(descriptor.number).st_size
        if byte_size < 1 or offset < 0 or offset + byte_size > size:
            raise _cannot(
                name,
                f"invalid args: {byte_size} bytes from {offset} on, but '{key}' holds {size} bytes",
            )
        self._regions[name] = SharedRegion(name, key, offset, byte_size, descriptor, self)

    def unregister(self, name: str = "") -> None:
        """Forget this region, or all of them. Idempotent. Raises: UNIMPLEMENTED as `register`."""
        self._allow()
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def buffer(self, region: str, size: int) -> memoryview:
        """Memory for a copy, counted until nobody holds it. Raises: as `oip.Region.read`."""
        if size > self._tensor_bytes_max:
            raise HostlerError(
                Code.PAYLOAD_TOO_LARGE,
                f"a tensor of {size} bytes in shared memory region '{region}' exceeds the limit "
                f"of {self._tensor_bytes_max}; raise gateway.body_bytes_max",
            )
        held = self.held_bytes
        if held + size > self._held_bytes_max:
            raise HostlerError(
                Code.UNAVAILABLE,
                f"{held} bytes of tensors from shared memory are held, and {size} more exceed the "
                f"limit of {self._held_bytes_max} (gateway.bodies_bytes_max); try again later",
                retry_after_s=1.0,
            )
        memory = np.empty(size, np.uint8)
        self._held_bytes += size
        weakref.finalize(memory, self._returned.append, size).atexit = False
        return memory.data

    def _allow(self) -> None:
        if not self.offered:
            raise HostlerError(
                Code.UNIMPLEMENTED,
                "Client shared memory is disabled: the server can be reached from other machines, "
                "or gateway.shared_memory is 'off'; set it to 'on', or send binary data",
            )


def shared_memory_of(config: Config) -> SharedMemory:
    """The registry as the settings want it."""
    offered = config.shared_memory == "on" or (
        config.shared_memory == "auto" and is_loopback(config.host)
    )
    return SharedMemory(config, offered=offered)


def _open(name: str, key: str) -> Descriptor:
    """The memory object of a key, which is a file directly in `FOLDER` and nothing else."""
    file = key.lstrip("/")  # as shm_open(3) does
    known = 0 < len(os.fsencode(file)) <= _KEY_BYTES_MAX and file not in (".", "..")
    if not known or "/" in file or "\0" in file:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"cannot register shared memory region '{name}' - invalid shm key '{key[:64]}': "
            "'/name' without a further '/' is expected",
        )
    try:
        descriptor = Descriptor(os.open(f"{FOLDER}/{file}", _FLAGS))
    except OSError as error:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"Unable to open shared memory region: '{key}': {error.strerror}; it must be made by "
            "a process on the server's machine, and the server's user must be allowed to write it",
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor.number).st_mode):
        raise _cannot(name, f"'{key}' is not a shared memory object")
    return descriptor


def _cannot(name: str, reason: str) -> HostlerError:
    return HostlerError(
        Code.INVALID_ARGUMENT, f"failed to register shared memory region '{name}': {reason}"
    )
