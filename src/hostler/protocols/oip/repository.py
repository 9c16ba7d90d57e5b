"""Bodies of the model repository routes: index, load, unload.

Source: Triton `extension_model_repository.md`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.protocols.oip.limits import FILE_NAME_CHARS_MAX, FILES_MAX
from hostler.protocols.oip.schema import Body, invalid, parse_json

__all__ = ["load_override", "parse_index", "parse_load", "parse_unload", "unload_dependents"]

_FILE: Final = "file:"
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_DEPTH_MAX: Final = 16
"""Most components of an overriding file's path."""


def parse_index(body: Body) -> bool:
    """Whether only ready models are asked for; an empty body asks for all.

    Raises: INVALID_ARGUMENT if `ready` is anything but a boolean.
    """
    ready = _parse_object(body, "the index request").get("ready", False)
    if not isinstance(ready, bool):
        raise invalid("'ready' of the index request must be true or false")
    return ready


def parse_unload(body: Body) -> bool:
    """Whether the models that depend on it go as well; an empty body means no.

    Raises: INVALID_ARGUMENT for another parameter or value.
    """
    return unload_dependents(_parameters(body, "the unload request"))


def unload_dependents(parameters: Mapping[str, object]) -> bool:
    """What the parameters of an unload ask for. Raises: INVALID_ARGUMENT as `parse_unload`."""
    for key in parameters:
        if key != "unload_dependents":
            raise invalid(
                f"unknown parameter '{_shown(key)}' of the unload request; it takes "
                f"unload_dependents"
            )
    dependents = parameters.get("unload_dependents", False)
    if not isinstance(dependents, bool):
        raise invalid("parameter 'unload_dependents' must be true or false")
    return dependents


def parse_load(body: Body) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """The ModelConfig (its JSON form) and the files to load with, in place of the package's own.

    Files are keyed `<version>/<path>`: a positive version and a path that stays within its folder.
    Returns `(None, {})` for an empty body.
    Raises: INVALID_ARGUMENT naming the parameter; MODEL_ERROR for names that no file can have.
    """
    return load_override(_parameters(body, "the load request"), _parse_base64)


def load_override(
    parameters: Mapping[str, object], content: Callable[[str, object], bytes]
) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """What the parameters of a load bring; see `parse_load`.

    `content`: the bytes of a file from its parameter's name and value. Raises: as `parse_load`.
    """
    config: dict[str, Any] | None = None
    files: dict[str, bytes] = {}
    for key, value in parameters.items():
        if key == "config":
            if not isinstance(value, str):
                raise invalid("parameter 'config' of the load request must be a string")
            config = _parse_config(value)
        elif key.startswith(_FILE):
            files[_checked_path(key[len(_FILE) :])] = content(key, value)
        else:
            raise invalid(
                f"unknown parameter '{_shown(key)}' of the load request; it takes config and "
                f"file:<version>/<name>"
            )
    if files and config is None:
        raise invalid("'file:' parameters of a load request need the parameter 'config' as well")
    if len(files) > FILES_MAX:
        raise invalid(f"a load request may bring {FILES_MAX} files at most, not {len(files)}")
    return config, files


def _parse_object(body: Body, what: str) -> dict[str, Any]:
    if not len(body):
        return {}
    document = parse_json(body, what)
    if not isinstance(document, dict):
        raise invalid(f"{what} must be a JSON object")
    return document


def _parameters(body: Body, what: str) -> dict[str, Any]:
    parameters = _parse_object(body, what).get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise invalid(f"'parameters' of {what} must be a JSON object")
    return parameters


def _parse_config(text: str) -> dict[str, Any]:
    # Triton's clients look for "failed to load". Source: its client examples, *_model_control.py.
    what = "failed to load: parameter 'config' of the load request"
    config = parse_json(text.encode(), what)
    if not isinstance(config, dict):
        raise invalid(f"{what} must hold a JSON object")
    return config


def _parse_base64(key: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise invalid(f"parameter '{_shown(key)}' of the load request must be a string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"parameter '{_shown(key)}' is not valid base64: {error}") from None


def _checked_path(path: str) -> str:
    """Refuse every path that could leave the version's folder, on any file system."""
    version, *components = path.split("/")
    longest = max(len(component.encode("utf-8", "replace")) for component in (version, *components))
    if longest > FILE_NAME_CHARS_MAX:
        # Triton tries to write it, so that clients know this as a failed load and not as a bad
        # request. Source: its client examples, simple_grpc_model_control.py.
        raise HostlerError(
            Code.MODEL_ERROR,
            f"failed to load: failed to poll from model repository: a part of 'file:{_shown(path)}'"
            f" has {longest} bytes; {FILE_NAME_CHARS_MAX} are the most",
        )
    if not _VERSION.fullmatch(version):
        raise invalid(
            f"'file:{_shown(path)}' must be file:<version>/<name>, with a version from 1 up"
        )
    if not 0 < len(components) <= _DEPTH_MAX or not all(map(_is_plain, components)):
        raise invalid(
            f"'file:{_shown(path)}' must name a file inside the version's folder, without '..' "
            f"and empty parts"
        )
    return path


def _is_plain(component: str) -> bool:
    return (
        component not in ("", ".", "..")
        and component.isprintable()
        and "\\" not in component
        and ":" not in component
    )


def _shown(name: str) -> str:
    """A client's word, short enough for a message."""
    return name[:64]
