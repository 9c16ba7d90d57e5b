"""Paths of the V2 REST API, of SageMaker's APIs and its containers, matched by hand. Pure.

Source: open-inference-protocol `open_inference_rest.yaml`; Triton `http_server.cc`. Clients quote
model names (`quote()`: a space is %20), so segments are split before they are unquoted; a name
that holds a `/` cannot be asked for. `/v2/models/stats` is the statistics of all models, whatever
models are called. All repositories share one space of names, so that a repository named in a path
changes nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["Route", "Wire", "match"]

GET: Final = ("GET", "HEAD")
POST: Final = ("POST",)
DELETE: Final = ("DELETE",)
GET_AND_POST: Final = (*GET, *POST)
_VERSION_DIGITS_MAX: Final = 18  # fits 63 bits, as versions do


class Wire(enum.Enum):
    """Whose errors a path answers with: V2's, those of SageMaker's runtime API or of its others."""

    V2 = "v2"
    RUNTIME = "runtime"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means.

    `action`: a name in the application's table. `model`, `region`: unquoted. `version`: None for
    the default. `bad_version`: what stands in the place of a version and is no number; no such
    version exists. `segment`: an endpoint's part of the path, as it was sent; `b""` for all.
    """

    action: str
    methods: tuple[str, ...]
    model: str = ""
    version: int | None = None
    bad_version: str = ""
    region: str = ""
    segment: bytes = b""
    wire: Wire = Wire.V2


_FIXED: Final[dict[tuple[str, ...], Route]] = {
    ("v2",): Route("server_metadata", GET),
    ("v2", "health", "live"): Route("live", GET),
    ("v2", "health", "ready"): Route("ready", GET),
    ("v2", "models", "stats"): Route("statistics", GET),
    ("v2", "repository", "index"): Route("index", POST),
    ("v2", "hostler", "models"): Route("table", GET),
    ("v2", "hostler", "endpoints"): Route("endpoints", GET),
    ("v2", "logging"): Route("log_settings", GET_AND_POST),
    ("v2", "trace", "setting"): Route("trace_settings", GET_AND_POST),
    ("metrics",): Route("metrics", GET),
    (): Route("aws", POST, wire=Wire.CONTROL),
}

_OF_ENDPOINT: Final[dict[bytes, str]] = {
    b"invocations": "invoke",
    b"invocations-response-stream": "invoke_stream",
    b"async-invocations": "invoke_async",
}

_OF_CONTAINER: Final[dict[tuple[str, ...], Route]] = {
    ("ping",): Route("container_ping", GET),
    ("invocations",): Route("container_invoke", POST),
    ("models",): Route("container_models", GET_AND_POST),
}

_OF_MODEL: Final[dict[tuple[str, ...], tuple[str, tuple[str, ...]]]] = {
    (): ("metadata", GET),
    ("ready",): ("model_ready", GET),
    ("config",): ("config", GET),
    ("stats",): ("statistics", GET),
    ("infer",): ("infer", POST),
    ("infer_stream",): ("infer_stream", POST),
    ("generate",): ("generate", POST),
    ("generate_stream",): ("generate_stream", POST),
    ("trace", "setting"): ("trace_settings", GET_AND_POST),
}

_OF_REPOSITORY: Final[dict[tuple[str, ...], str]] = {("load",): "load", ("unload",): "unload"}


_OF_MEMORY: Final[dict[tuple[str, str], tuple[str, tuple[str, ...]]]] = {
    ("systemsharedmemory", "status"): ("memory_status", GET),
    ("systemsharedmemory", "register"): ("memory_register", POST),
    ("systemsharedmemory", "unregister"): ("memory_unregister", POST),
    ("cudasharedmemory", "status"): ("cuda_status", GET),
    ("cudasharedmemory", "register"): ("cuda_register", POST),
    ("cudasharedmemory", "unregister"): ("cuda_unregister", POST),
}


def match(raw_path: bytes, *, container: bool = False) -> Route | None:
    """The meaning of a path as it was sent, or None when it has none. A final `/` is ignored.

    `container`: the paths of SageMaker's container contract are there, too.
    """
    if raw_path.startswith(b"/endpoints/"):
        return _match_endpoint(raw_path.split(b"/"))
    segments = tuple(
        unquote_to_bytes(segment).decode("utf-8", "replace")
        for segment in raw_path.removesuffix(b"/").split(b"/")[1:]
    )
    fixed = _FIXED.get(segments)
    if fixed is not None:
        return fixed
    if container and segments[0] in ("ping", "invocations", "models"):
        return _match_container(segments)
    if segments[:2] == ("v2", "models") and len(segments) > 2:
        return _match_model(segments[2], segments[3:])
    if segments[:2] == ("v2", "repository"):
        return _match_repository(segments[2:])
    if segments[:2] in (("v2", "systemsharedmemory"), ("v2", "cudasharedmemory")):
        return _match_memory(segments[1], segments[2:])
    if segments[:3] == ("v2", "hostler", "endpoints") and len(segments) == 4 and segments[3]:
        return Route("endpoints", GET, segment=segments[3].encode())
    return None


def _match_model(model: str, rest: tuple[str, ...]) -> Route | None:
    version: int | None = None
    bad_version = ""
    if len(rest) > 1 and rest[0] == "versions":
        text, rest = rest[1], rest[2:]
        if text.isascii() and text.isdigit() and len(text) <= _VERSION_DIGITS_MAX:
            version = int(text)
        else:
            bad_version = text or "(empty)"
    found = _OF_MODEL.get(rest)
    if found is None or not model:
        return None
    return Route(*found, model, version, bad_version)


def _match_endpoint(segments: list[bytes]) -> Route | None:
    action = _OF_ENDPOINT.get(segments[3]) if len(segments) == 4 else None
    if action is None:
        return None
    return Route(action, POST, segment=segments[2], wire=Wire.RUNTIME)


def _match_container(segments: tuple[str, ...]) -> Route | None:
    fixed = _OF_CONTAINER.get(segments)
    if fixed is not None:
        return fixed
    if segments[0] != "models" or len(segments) < 2 or not segments[1]:
        return None
    if len(segments) == 2:
        return Route("container_model", (*GET, *DELETE), segments[1])
    if segments[2:] == ("invoke",):
        return Route("container_model_invoke", POST, segments[1])
    return None


def _match_repository(rest: tuple[str, ...]) -> Route | None:
    if rest[:1] != ("models",):
        rest = rest[1:]  # the name of a repository
    if rest == ("index",):
        return _FIXED["v2", "repository", "index"]
    action = _OF_REPOSITORY.get(rest[2:])
    if action is None or rest[0] != "models" or not rest[1]:
        return None
    return Route(action, POST, rest[1])


def _match_memory(kind: str, rest: tuple[str, ...]) -> Route | None:
    region = ""
    if rest[:1] == ("region",) and len(rest) > 1:
        region, rest = rest[1], rest[2:]
        if not region:
            return None
    found = _OF_MEMORY.get((kind, rest[0])) if len(rest) == 1 else None
    if found is None or (rest == ("register",) and not region):
        return None
    return Route(*found, region=region)
