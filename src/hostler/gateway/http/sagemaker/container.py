"""hostler as a SageMaker container: `/ping`, `/invocations`, and `/models` of a multi-model one.

Source: SageMaker developer guide, "Use your own inference code with hosting services" and
"Contract for custom containers to serve multi-model endpoints"; Triton `sagemaker_server.cc` for
what the pages leave out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import parse_qsl

import msgspec
import orjson

from hostler.core import Clock, Code, Context, HostlerError, InferResponse
from hostler.gateway.config import Config
from hostler.gateway.http.answers import JSON_TYPE, Receive, Reply, Scope, error_reply
from hostler.gateway.http.body import Bodies
from hostler.gateway.http.guard import principal_of
from hostler.gateway.http.pieces import Asked, Broken, StreamReply, stream_reply
from hostler.gateway.http.routes import Route
from hostler.gateway.http.sagemaker.ask import Turn, answer, prepare_aside
from hostler.gateway.ports import Live
from hostler.repository import Package
from hostler.serving import Answer, Prepared, Question, read_answer

__all__ = ["Container", "Hosting", "Reader"]

_MODELS_MAX: Final = 100_000
_PAGE_MAX: Final = 100
_LOAD_BYTES_MAX: Final = 64 * 1024
_URL_CHARS_MAX: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,255}")
_ONLY: Final = "container/model"
"""Under which name the single model of a container is hosted."""
_PREFIX: Final = "container/models/"
_ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"
_NOT_YET: Final = "the model is not loaded yet"
_UNWRITABLE: Final = re.compile(r"[^\t -~]")

Reader = Callable[[str, Path], Sequence[Package]]
"""(name, folder) -> packages, the entry first; blocks. Raises: INVALID_ARGUMENT."""

Headers = Mapping[bytes, bytes]


class Hosting(Protocol):
    """What a container needs of `serving.Serving`."""

    async def host(self, packages: Sequence[Package], *, idle_ttl_s: float = 0.0) -> None:
        """Serve packages by their names."""
        ...

    async def warm(self, name: str) -> None:
        """Load now. Raises: why it cannot."""
        ...

    async def unhost(self, names: Sequence[str]) -> None:
        """Let requests finish, free the memory, forget."""
        ...

    async def acquire_hosted(self, name: str, context: Context) -> Live:
        """The hosted model, pinned, loaded first if need be."""
        ...

    def hosted_ready(self, name: str) -> bool:
        """Whether a request to a hosted model would be served."""
        ...

    def ready(self) -> bool:
        """Whether the server is to get traffic."""
        ...


class _LoadRequest(msgspec.Struct):
    """POST /models."""

    model_name: str
    url: str


class _Held:
    """A model that the platform has had loaded. `names`: of its packages.

    Its pin keeps it in memory until the platform unloads it: what is loaded is for the platform to
    decide, which a 507 tells that there is no room.
    """

    __slots__ = ("_live", "entry", "names", "url")

    def __init__(self, entry: str, names: Sequence[str], url: str, live: Live) -> None:
        self.entry = entry
        self.names = names
        self.url = url
        self._live: Live | None = live

    def release(self) -> None:
        """Let it be evicted. Idempotent."""
        live, self._live = self._live, None
        if live is not None:
            live.release()


class Container:
    """The handlers. `models_root`: outside of which no model is loaded (/opt/ml/models).

    A `models_root` of None is a container of one model.
    """

    def __init__(
        self,
        config: Config,
        hosting: Hosting,
        read: Reader,
        models_root: Path | None,
        bodies: Bodies,
        clock: Clock,
    ) -> None:
        self._hosting = hosting
        self._read = read
        self._root = models_root
        self._bodies = bodies
        self._now = clock.now
        self._timeout_s = config.invoke_timeout_s
        self._joined_bytes_max = config.body_bytes_max
        self._models: dict[str, _Held] = {}
        self._busy: set[str] = set()
        self._only: _Held | None = None
        self._open = False

    async def open(self, folder: Path) -> None:
        """Begin: load the one model from its folder, or wait for the platform to name some.

        Raises: HostlerError if it cannot be loaded.
        """
        if self._root is None:
            self._only = await self._held_now(_ONLY, folder, str(folder))
        self._open = True

    def close(self) -> None:
        """Hold nothing in memory any more; before the server stops. Idempotent."""
        for held in (self._only, *self._models.values()):
            if held is not None:
                held.release()

    def handlers(
        self,
    ) -> dict[str, Callable[[Route, Headers, Scope, Receive], Awaitable[Reply | StreamReply]]]:
        """By the action of their route."""
        return {
            "container_ping": self.ping,
            "container_invoke": self.invoke,
            "container_models": self.models,
            "container_model": self.model,
            "container_model_invoke": self.invoke_model,
        }

    # -- a single model --------------------------------------------------------------------

    async def ping(self, route: Route, headers: Headers, scope: Scope, receive: Receive) -> Reply:
        """GET /ping: 200 once the model can answer; of many models, once some can be loaded."""
        if not self._open:
            return error_reply(503, _NOT_YET)
        if not self._hosting.ready():
            return error_reply(503, "the container is stopping")
        if self._only is not None and not self._hosting.hosted_ready(_ONLY):
            return error_reply(503, "the model cannot answer for now")
        return 200, (), b""

    async def invoke(
        self, route: Route, headers: Headers, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        """POST /invocations."""
        if self._root is not None:
            raise HostlerError(
                Code.NOT_FOUND,
                "this container serves many models; POST to /models/{name}/invoke",
            )
        self._check_open()
        return await self._invoke(_ONLY, headers, scope, receive)

    # -- many models -----------------------------------------------------------------------

    async def models(self, route: Route, headers: Headers, scope: Scope, receive: Receive) -> Reply:
        """GET /models, by pages, and POST /models."""
        self._check_many()
        if scope["method"] == "POST":
            return await self._load(headers, receive)
        return self._page(scope.get("query_string", b""))

    async def model(self, route: Route, headers: Headers, scope: Scope, receive: Receive) -> Reply:
        """GET and DELETE /models/{name}; what it took in memory is free once DELETE answers."""
        self._check_many()
        held = self._held(route.model)
        if scope["method"] == "DELETE":
            del self._models[route.model]
            held.release()
            await self._hosting.unhost(held.names)
            return 200, (JSON_TYPE,), orjson.dumps({"status": f"unloaded {route.model}"})
        return 200, (JSON_TYPE,), orjson.dumps(_row(route.model, held))

    async def invoke_model(
        self, route: Route, headers: Headers, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        """POST /models/{name}/invoke."""
        self._check_many()
        return await self._invoke(self._held(route.model).entry, headers, scope, receive)

    def _check_open(self) -> None:
        if not self._open:
            raise HostlerError(Code.UNAVAILABLE, _NOT_YET, retry_after_s=1.0)

    def _check_many(self) -> None:
        if self._root is None:
            raise HostlerError(
                Code.NOT_FOUND,
                "this container serves one model, at /invocations; /models is there with "
                "SAGEMAKER_MULTI_MODEL=true",
            )
        self._check_open()

    def _held(self, name: str) -> _Held:
        held = self._models.get(name)
        if held is None:
            raise HostlerError(Code.NOT_FOUND, f"model '{name[:256]}' is not loaded")
        return held

    async def _load(self, headers: Headers, receive: Receive) -> Reply:
        body = await self._bodies.read(receive, headers)
        try:
            if len(body) > _LOAD_BYTES_MAX:
                raise HostlerError(
                    Code.PAYLOAD_TOO_LARGE,
                    f"the body of {len(body)} bytes exceeds the limit of {_LOAD_BYTES_MAX}",
                )
            asked = msgspec.json.decode(body, type=_LoadRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f'the body must be {{"model_name": ..., "url": ...}}: {error}',
            ) from None
        finally:
            self._bodies.release(body)
        name = asked.model_name
        if _NAME.fullmatch(name) is None:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"model_name {name[:300]!r} is not allowed: letters, digits, '.', '_' and '-', at "
                "most 256",
            )
        if name in self._models or name in self._busy:
            return error_reply(409, f"model '{name}' is already loaded")
        if len(self._models) + len(self._busy) >= _MODELS_MAX:
            raise HostlerError(Code.RESOURCE_EXHAUSTED, f"{_MODELS_MAX} models are loaded")
        self._busy.add(name)
        try:
            folder = await asyncio.to_thread(self._inside, asked.url)
            self._models[name] = await self._held_now(_PREFIX + name, folder, asked.url)
        finally:
            self._busy.discard(name)
        return 200, (JSON_TYPE,), orjson.dumps({"status": f"loaded {name}"})

    async def _held_now(self, entry: str, folder: Path, url: str) -> _Held:
        """Load a folder's model, and hold it; where that fails, nothing of it is left."""
        packages = await asyncio.to_thread(self._read, entry, folder)
        names = [package.name for package in packages]
        try:
            await self._hosting.host(packages)
            await self._hosting.warm(entry)
            live = await self._hosting.acquire_hosted(entry, Context())
        except BaseException:
            await self._hosting.unhost(names)
            raise
        return _Held(entry, names, url, live)

    def _inside(self, url: str) -> Path:
        """The folder of a model. Raises: INVALID_ARGUMENT for one that is elsewhere; NOT_FOUND."""
        assert self._root is not None
        shown = url[:300]
        if len(url) > _URL_CHARS_MAX:
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"url has {len(url)} characters; at most {_URL_CHARS_MAX}"
            )
        try:
            root = self._root.resolve()
            folder = Path(url.removeprefix("file://")).resolve()
            # Source: Triton, which refuses /dev, /proc and /sys, and all but its own folder.
            if folder == root or not folder.is_relative_to(root):
                raise HostlerError(
                    Code.INVALID_ARGUMENT, f"url {shown!r} does not lie in '{self._root}'"
                )
            if not folder.is_dir():
                raise HostlerError(Code.NOT_FOUND, f"url {shown!r}: no such folder")
        except (OSError, RuntimeError, ValueError) as error:  # loops of links, zero bytes
            raise HostlerError(Code.INVALID_ARGUMENT, f"url {shown!r}: {error}") from None
        return folder

    def _page(self, query: bytes) -> Reply:
        wanted = dict(parse_qsl(query.decode("latin-1")))
        after = wanted.get("next_page_token", "")
        limit = wanted.get("limit", str(_PAGE_MAX))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and int(limit)):
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"limit is {limit[:32]!r}, but must be a number from 1 on"
            )
        names = sorted(name for name in self._models if name > after)
        shown = names[: min(int(limit), _PAGE_MAX)]
        page: dict[str, Any] = {"models": [_row(name, self._models[name]) for name in shown]}
        if len(names) > len(shown):
            page["nextPageToken"] = shown[-1]
        return 200, (JSON_TYPE,), orjson.dumps(page)

    # -- invocations -----------------------------------------------------------------------

    async def _invoke(
        self, name: str, headers: Headers, scope: Scope, receive: Receive
    ) -> Reply | StreamReply:
        body = await self._bodies.read(receive, headers)
        asked = Asked(self._bodies, body, scope.get("hostler.exchange"))
        question = Question(
            body,
            headers.get(b"content-type", b"").decode("latin-1"),
            headers.get(b"accept", b"").decode("latin-1"),
            headers.get(_ATTRIBUTES, b"").decode("latin-1"),
        )
        turn = Turn(
            asked.exchange,
            self._now() + self._timeout_s,
            principal_of(scope),
            self._joined_bytes_max,
        )
        try:
            return await self._answered(name, question, asked, turn)
        except HostlerError as error:
            asked.release()
            status = error.details.get("status")
            if isinstance(status, int) and 400 <= status <= 599:
                return error_reply(status, str(error.details.get("message") or error.message))
            raise
        except BaseException:
            asked.release()
            raise

    async def _answered(
        self, name: str, question: Question, asked: Asked, turn: Turn
    ) -> Reply | StreamReply:
        """What `asked` holds is given back, here or with the last piece, unless this raises."""
        context = Context()
        turn.take(context)
        asked.live = live = await self._hosting.acquire_hosted(name, context)
        if not live.spec.decoupled:
            said = await answer(live, question, turn)
            asked.release()
            return 200, _lines(said), said.body
        prepared = await prepare_aside(live, question, turn)
        writer = _Chunks(live, prepared)
        return await stream_reply(asked, prepared.request, writer, writer.lines())


class _Chunks:
    """Responses -> pieces of a chunked body; the first one says of what media type it is."""

    def __init__(self, live: Live, prepared: Prepared) -> None:
        self._live = live
        self._prepared = prepared
        self._first = Answer(b"", prepared.accept or "application/octet-stream")
        self._said = False

    def lines(self) -> Iterator[tuple[bytes, bytes]]:
        """The headers; read once the first response is there."""
        yield from _lines(self._first)

    def encode(self, response: InferResponse) -> bytes:
        """One response."""
        if not response.outputs:
            return b""
        said = read_answer(self._live, self._prepared, response)
        if not self._said:
            self._first, self._said = said._replace(body=b""), True
        return said.body

    def end(self) -> bytes:
        """The model ended without a last response."""
        return b""

    def failure(self, error: HostlerError) -> NoReturn:
        """An error after the first piece: the body must not look whole."""
        raise Broken(error.message) from error


def _lines(said: Answer) -> list[tuple[bytes, bytes]]:
    """Headers of an answer; what a header cannot hold becomes `?`."""
    lines = [(b"content-type", _UNWRITABLE.sub("?", said.content_type).encode())]
    if said.custom_attributes is not None:
        lines.append((_ATTRIBUTES, _UNWRITABLE.sub("?", said.custom_attributes).encode()))
    return lines


def _row(name: str, held: _Held) -> dict[str, str]:
    return {"modelName": name, "modelUrl": held.url}
