"""Which kind of store a URL's scheme means. obstore is loaded by the first store that needs it."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.storage.config import Config
from hostler.storage.objects.answers import failures
from hostler.storage.objects.client import client
from hostler.storage.objects.local import LocalStore
from hostler.storage.objects.location import Location, locate
from hostler.storage.objects.remote import RemoteStore
from hostler.storage.objects.s3 import open_s3, s3_endpoint
from hostler.storage.objects.store import ObjectStore
from hostler.storage.objects.web import WebStore

__all__ = ["Storage"]

_GOOGLE: Final = "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS to a file of credentials"
_AZURE: Final = "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or another credential"

_STORES_MAX: Final = 64  # each has a pool of connections
_REST_S: Final = 0.05

Opener = Callable[[Config, Mapping[str, str], Location], ObjectStore]


class Storage:
    """Object stores by URL: `s3://`, `gs://`, `az://`, `https://`, `http://`, `file://`.

    `variables`: the AWS_ variables of the process, which stand in for settings that are empty.
    Google's and Azure's own (GOOGLE_, AZURE_) are read by obstore itself. Safe to call from
    threads.
    """

    def __init__(self, config: Config, variables: Mapping[str, str]) -> None:
        self._config = config
        self._variables = variables
        self._lock = threading.Lock()
        self._stores: OrderedDict[tuple[str, str], ObjectStore] = OrderedDict()
        self._is_remote = False

    def open(self, url: str) -> tuple[ObjectStore, str]:
        """The store that a URL names, and the key in it ("" or `.../` for a prefix).

        Asks nobody yet. Raises: INVALID_ARGUMENT; PERMISSION_DENIED for what settings forbid.
        """
        location = locate(url)
        if location.scheme == "file":
            return _open_file(self._config, location)
        opener = _opener(location)
        self._is_remote = True
        if location.query:  # a presigned address, which is good for one object
            return opener(self._config, self._variables, location), location.key
        name = (location.scheme, location.place)
        with self._lock:
            store = self._stores.get(name)
            if store is None:
                store = self._stores[name] = opener(self._config, self._variables, location)
                if len(self._stores) > _STORES_MAX:
                    self._stores.popitem(last=False)
            self._stores.move_to_end(name)
        return store, location.key

    @property
    def s3_endpoint(self) -> str:
        """Where `s3://` is asked for, "" for Amazon's own; from a setting or a variable."""
        return s3_endpoint(self._config, self._variables)

    def check(self, url: str) -> None:
        """That a URL can be opened, at no cost and without any library. Raises: as `open`."""
        location = locate(url)
        if location.scheme == "file":
            _open_file(self._config, location)
            return
        _opener(location)
        _check_protected(self._config, location)

    async def close(self) -> None:
        """Let the library come to rest; call it last, when nothing is read or written any more.

        When Python ends while a thread of obstore is still about to hand over its last answer, the
        process aborts (seen with 0.12: one in five that end at once, none after this pause).
        """
        with self._lock:
            self._stores.clear()
        if self._is_remote:
            await asyncio.sleep(_REST_S)


def _opener(location: Location) -> Opener:
    opener = _OPENERS.get(location.scheme)
    if opener is None:
        known = ", ".join(f"{scheme}://" for scheme in (*_OPENERS, "file"))
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"{location.scheme}:// is no kind of store; there are {known}",
        )
    return opener


def _check_protected(config: Config, location: Location) -> None:
    if location.scheme == "http" and not config.allow_http:
        raise HostlerError(
            Code.PERMISSION_DENIED,
            f"http://{location.place}: nothing protects http:// on its way; use https://, or set "
            "storage.allow_http",
        )


def _open_file(config: Config, location: Location) -> tuple[ObjectStore, str]:
    if not config.file_urls:
        raise HostlerError(
            Code.PERMISSION_DENIED,
            "file:// URLs are switched off; set storage.file_urls, or use another store",
        )
    if not config.file_roots:
        return LocalStore("/"), location.key
    path = f"/{location.key}"
    for root in sorted(config.file_roots, key=len, reverse=True):
        below = f"{root.rstrip('/')}/"
        if path.startswith(below):
            return LocalStore(root), path.removeprefix(below)
    raise HostlerError(
        Code.PERMISSION_DENIED,
        f"file://{path} is in none of storage.file_roots: {', '.join(config.file_roots)}",
    )


def _open_s3(config: Config, variables: Mapping[str, str], location: Location) -> ObjectStore:
    return open_s3(config, variables, location.place)


def _open_gs(config: Config, variables: Mapping[str, str], location: Location) -> ObjectStore:
    from obstore.store import GCSStore  # noqa: PLC0415 - loaded when a store is used

    options = client(config, variables, allow_http=config.allow_http)
    url = f"gs://{location.place}"
    store = _made(url, _GOOGLE, partial(GCSStore, location.place, **options))
    return RemoteStore(store, url, config.retries_max)


def _open_az(config: Config, variables: Mapping[str, str], location: Location) -> ObjectStore:
    from obstore.store import AzureStore  # noqa: PLC0415 - loaded when a store is used

    options = client(config, variables, allow_http=config.allow_http)
    url = f"az://{location.place}"
    store = _made(url, _AZURE, partial(AzureStore, location.place, **options))
    return RemoteStore(store, url, config.retries_max)


def _made(url: str, names: str, make: Callable[[], Any]) -> Any:
    """A store of obstore's. `names`: of the variables that it reads.

    Raises: INVALID_ARGUMENT where one of them is missing or cannot be used.
    """
    try:
        return make()
    except failures() as error:
        reason = str(error).partition("\n")[0].rpartition("error: ")[2]
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{url} cannot be used: {reason}; set {names}"
        ) from None


def _open_web(config: Config, variables: Mapping[str, str], location: Location) -> ObjectStore:
    from obstore.store import HTTPStore  # noqa: PLC0415 - loaded when a store is used

    server = f"{location.scheme}://{location.place}"
    _check_protected(config, location)
    query = f"?{location.query}" if location.query else ""
    options = client(config, variables, allow_http=location.scheme == "http")
    return WebStore(HTTPStore(f"{server}/{query}", **options), server)


_OPENERS: Final[Mapping[str, Opener]] = {
    "s3": _open_s3,
    "gs": _open_gs,
    "az": _open_az,
    "https": _open_web,
    "http": _open_web,
}
