"""Where settings come from: one YAML file, then the environment, then flags."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from hostler.config.describe import Setting, nearest
from hostler.core import Code, HostlerError

__all__ = [
    "Given",
    "container_variables",
    "from_environment",
    "from_file",
    "from_flags",
    "installer_variables",
    "storage_variables",
    "variable_value",
]

_PREFIX: Final = "HOSTLER_"
_INSTALLER: Final = frozenset(
    name
    for upper in (
        *("HOME", "TMPDIR", "NETRC", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    )
    for name in (upper, upper.lower())
)
_NOT_FOR_INSTALLER: Final = frozenset(
    ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN")
)
"""They would have pip install elsewhere, or nothing."""
_FILE_BYTES_MAX: Final = 1 << 20  # a settings file is written by hand; a megabyte is a mistake


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody set.

    `name`: a known setting's. `value`: text where `is_text`, else what YAML made of it.
    `source`: where it stands: `file:line`, a variable's name or a flag.
    """

    name: str
    value: object
    source: str
    is_text: bool


def from_file(path: Path, known: Mapping[str, Setting]) -> list[Given]:
    """What a YAML file of `room: {field: value}` says.

    Raises: INVALID_ARGUMENT naming file and line for malformed YAML, unknown and repeated keys;
    NOT_FOUND if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise HostlerError(
            Code.NOT_FOUND, f"cannot read the settings file {path}: {error.strerror}"
        ) from None
    if len(text) > _FILE_BYTES_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"{path} has more than {_FILE_BYTES_MAX} bytes; is this the settings file?",
        )
    try:
        return list(_read(text, path, known))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"{where}: not valid YAML: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "it is nested too deeply"
        raise HostlerError(Code.INVALID_ARGUMENT, f"{path}: not valid YAML: {reason}") from None


def from_environment(
    known: Mapping[str, Setting], variables: Mapping[str, str] | None = None
) -> list[Given]:
    """What `HOSTLER_<ROOM>__<FIELD>` variables say; `variables` defaults to the process's own.

    Raises: INVALID_ARGUMENT for a variable with that double underscore that names no setting,
    and for one that only lacks the double underscore or the room.
    """
    variables = os.environ if variables is None else variables
    by_variable = {setting.variable: name for name, setting in known.items()}
    single = {variable.replace("__", "_"): variable for variable in by_variable}
    for setting in known.values():  # HOSTLER_PORT for HOSTLER_GATEWAY__PORT
        single.setdefault(_PREFIX + setting.field.upper(), setting.variable)
    given = []
    for variable in sorted(variables):
        if not variable.startswith(_PREFIX):
            continue
        name = by_variable.get(variable)
        if name is not None:
            given.append(Given(name, variables[variable], variable, is_text=True))
        elif variable in single and "://" not in variables[variable]:
            # Kubernetes sets HOSTLER_<SERVICE>_PORT=tcp://... for services beside us: not ours.
            raise _unknown("variable", variable, "the environment", single[variable])
        elif "__" in variable:
            raise _unknown(
                "variable", variable, "the environment", _nearest_variable(variable, known)
            )
    return given


def from_flags(
    assignments: Iterable[tuple[str, str, str]], known: Mapping[str, Setting]
) -> list[Given]:
    """What the command line says: `(setting, text, flag)` each, the last one of a setting wins.

    Raises: INVALID_ARGUMENT for an unknown setting.
    """
    given = []
    for name, text, flag in assignments:
        if name not in known:
            raise _unknown("setting", name, flag, nearest(name, known))
        given.append(Given(name, text, flag, is_text=True))
    return given


def variable_value(name: str) -> str | None:
    """A variable that is no setting, such as HOSTLER_CONFIG; None when unset or empty."""
    return os.environ.get(name) or None


def installer_variables(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What pip gets of `variables`, the process's own by default: its settings and the network's.

    Packages' build scripts see it too, so everything else stays here.
    """
    variables = os.environ if variables is None else variables
    return {
        name: value
        for name, value in variables.items()
        if name in _INSTALLER or (name.startswith("PIP_") and name not in _NOT_FOR_INSTALLER)
    }


def storage_variables(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What object stores get of `variables`, the process's own by default: those of the AWS SDKs.

    They hold secrets. Source: AWS SDKs and Tools Reference Guide, environment variables.
    """
    variables = os.environ if variables is None else variables
    return {name: value for name, value in variables.items() if name.startswith("AWS_")}


_NOT_FOR_MODELS: Final = frozenset(
    ("HOME", "HOSTNAME", "LANG", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "TERM",
     "USER", "VIRTUAL_ENV", "_")
)  # fmt: skip
_PROCESS_PREFIXES: Final = (_PREFIX, "LD_AUDIT", "LD_PRELOAD", "PYTHON")
_MODEL_PREFIX: Final = "HOSTLER_IMAGE_"  # how pictures become its input; see repository.image_rule
_VARIABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_VARIABLE_CHARS_MAX: Final = 1024


def container_variables(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the models of a container get of `variables`, the process's own by default.

    All but what is about this process: CreateModel's Environment may hold any names, and the
    platform adds its own. What CreateModel does not allow (longer than 1,024 characters) stays
    here. They may hold secrets.
    """
    variables = os.environ if variables is None else variables
    return {
        name: value
        for name, value in variables.items()
        if name not in _NOT_FOR_MODELS
        and (name.startswith(_MODEL_PREFIX) or not name.startswith(_PROCESS_PREFIXES))
        and len(value) <= _VARIABLE_CHARS_MAX
        and _VARIABLE.fullmatch(name)
    }


def _read(text: bytes, path: Path, known: Mapping[str, Setting]) -> Iterator[Given]:
    root = yaml.compose(text, yaml.SafeLoader)
    if root is None:
        return
    rooms = {setting.room: None for setting in known.values()}
    for room_key, room, room_where in _entries(root, path, "the file"):
        if room_key not in rooms:
            raise _unknown("room", room_key, room_where, nearest(room_key, [*rooms, *known]))
        if isinstance(room, yaml.ScalarNode) and room.tag == "tag:yaml.org,2002:null":
            continue
        for key, node, where in _entries(room, path, f"'{room_key}'"):
            name = f"{room_key}.{key}"
            if name not in known:
                raise _unknown("setting", name, where, _nearest_in_room(name, known))
            yield Given(name, _value(node), where, is_text=False)


def _entries(node: yaml.Node, path: Path, what: str) -> Iterator[tuple[str, yaml.Node, str]]:
    """Key, value and `file:line` of each entry of a mapping."""
    where = f"{path}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"{where}: {what} must be a mapping, as in `gateway: {{port: 8000}}`",
        )
    seen: dict[str, str] = {}
    for key_node, value in node.value:
        where = f"{path}:{key_node.start_mark.line + 1}"
        key = str(key_node.value)
        if key in seen:
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"{where}: '{key}' is set twice, first at {seen[key]}"
            )
        seen[key] = where
        yield key, value, where


def _value(node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _nearest_in_room(name: str, known: Mapping[str, Setting]) -> str | None:
    room = name.partition(".")[0]
    return nearest(name, [other for other in known if known[other].room == room]) or nearest(
        name.partition(".")[2], known
    )


def _nearest_variable(variable: str, known: Mapping[str, Setting]) -> str | None:
    name = variable.removeprefix(_PREFIX).replace("__", ".").lower()
    meant = nearest(name, known)
    return known[meant].variable if meant else None


def _unknown(what: str, name: str, where: str, meant: str | None) -> HostlerError:
    hint = f"did you mean '{meant}'?" if meant else "`hostler config` lists them all"
    return HostlerError(Code.INVALID_ARGUMENT, f"{where}: unknown {what} '{name}'; {hint}")
