"""Values from a file, the environment and flags: their types, their ranges, their order."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fakes.settings import Colour, House

from hostler.config.describe import nearest, settings_of
from hostler.config.layers import from_environment, from_file, from_flags
from hostler.config.resolve import Resolved, build
from hostler.core import Code, HostlerError

KNOWN = settings_of(House)


def resolve(
    file: Path | None = None, variables: dict[str, str] | None = None, **flags: str
) -> Resolved[House]:
    """`flags`: `door__port="1"` is `--set door.port=1`."""
    assignments = [(name.replace("__", "."), text, "--set") for name, text in flags.items()]
    given = from_file(file, KNOWN) if file else []
    given += from_environment(KNOWN, variables or {})
    given += from_flags(assignments, KNOWN)
    return build(House, KNOWN, given)


def written(folder: Path, text: str) -> Path:
    path = folder / "house.yaml"
    path.write_text(text)
    return path


TEXTS = [
    ("door.host", "::1", "::1"),
    ("door.host", "8080", "8080"),
    ("door.port", "0", 0),
    ("door.open", "yes", True),
    ("door.open", "FALSE", False),
    ("door.share", "1", 1.0),
    ("door.wait_s", "250ms", 0.25),
    ("door.wait_s", "2", 2.0),
    ("door.wait_s", "inf", math.inf),
    ("door.body_bytes_max", "2GiB", 2 << 30),
    ("store.mode", "poll", "poll"),
    ("store.colour", "blue", Colour.BLUE),
    ("store.models", "a, b", ("a", "b")),
    ("store.models", '["a,b", "1"]', ("a,b", "1")),
    ("store.models", "", ()),
    ("store.sizes", "4,8", (4, 8)),
    ("store.folder", "/tmp/x", Path("/tmp/x")),
    ("store.folder", "none", None),
    ("store.limit_s", "5m", 300.0),
    ("store.limit_s", "", None),
]


@pytest.mark.parametrize(("name", "text", "value"), TEXTS)
def test_text_becomes_a_value_of_the_settings_type(name: str, text: str, value: object) -> None:
    by_flag = resolve(**{name.replace(".", "__"): text})
    by_variable = resolve(variables={KNOWN[name].variable: text})
    assert by_flag.value(name) == by_variable.value(name) == value
    assert type(by_flag.value(name)) is type(value)
    assert by_variable.source(name) == KNOWN[name].variable


YAMLS = [
    ("door: {port: 0}", "door.port", 0),
    ("door: {open: on}", "door.open", True),
    ("door: {share: 1}", "door.share", 1.0),
    ("door: {wait_s: 30s}", "door.wait_s", 30.0),
    ("door: {wait_s: 5}", "door.wait_s", 5.0),
    ("door: {body_bytes_max: 512 MB}", "door.body_bytes_max", 512_000_000),
    ("store: {models: [a, b]}", "store.models", ("a", "b")),
    ("store: {folder: null}", "store.folder", None),
    ("store: {folder: models}", "store.folder", Path("models")),
    ("door:\nstore: {mode: poll}", "store.mode", "poll"),
]


@pytest.mark.parametrize(("text", "name", "value"), YAMLS)
def test_yaml_becomes_a_value_of_the_settings_type(
    tmp_path: Path, text: str, name: str, value: object
) -> None:
    assert resolve(written(tmp_path, text)).value(name) == value


REFUSED_TEXTS = [
    ("door.port", "65536", "65,535"),
    ("door.port", "-1", "an integer from 0 to"),
    ("door.port", "80.5", "an integer"),
    ("door.open", "maybe", "true or false"),
    ("door.share", "1.5", "a number from 0 to 1"),
    ("door.share", "nan", "a number"),
    ("door.wait_s", "0", "more than 0"),
    ("door.wait_s", "soon", "a duration"),
    ("door.body_bytes_max", "2 XB", "a size"),
    ("store.mode", "pol", "one of none, poll"),
    ("store.colour", "green", "one of red, blue"),
    ("store.sizes", "4,x", "a list, each an integer"),
    ("store.sizes", "[4", "a list"),
]


@pytest.mark.parametrize(("name", "text", "expected"), REFUSED_TEXTS)
def test_a_refusal_names_setting_value_range_and_source(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(HostlerError) as caught:
        resolve(variables={KNOWN[name].variable: text})
    message = caught.value.message
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "\n" not in message
    for part in (name, repr(text), expected, KNOWN[name].variable):
        assert part in message


REFUSED_FILES = [
    ("door: {port: '80', prot: 1}", "house.yaml:1: unknown setting 'door.prot'.*'door.port'"),
    ("\n\ndoor:\n  port: yes", "house.yaml:4: door.port is True, but an integer"),
    ("door:\n  host: 0", "house.yaml:2: door.host is 0, but text is expected"),
    ("door: {open: 1}", "door.open is 1, but true or false"),
    ("store: {models: a: b}", "house.yaml:1: not valid YAML"),
    ("dor: {}", "house.yaml:1: unknown room 'dor'; did you mean 'door'"),
    ("port: 8000", "unknown room 'port'; did you mean 'door.port'"),
    ("door: 8000", "'door' must be a mapping"),
    ("- door", "the file must be a mapping"),
    ("door: {port: 1}\ndoor: {port: 2}", "house.yaml:2: 'door' is set twice"),
    ("door:\n  port: 1\n  port: 2", "house.yaml:3: 'port' is set twice"),
    ("door: {wait_s: [1]}", "a duration"),
    ("door: {host: !!python/name:os.system x}", "not valid YAML"),
    ("door: {port: 1}\n---\ndoor: {port: 2}", "house.yaml:2: not valid YAML"),
    ("door: &a [*a]", "must be a mapping"),
    ("store: {models: &a [*a]}", "not valid YAML"),
    ("\x00", "not valid YAML"),
    ("[" * 5000, "not valid YAML"),
    ("xyz: 1", "`hostler config` lists them all"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED_FILES)
def test_a_wrong_file_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(HostlerError, match=message) as caught:
        resolve(written(tmp_path, text))
    assert "\n" not in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostlerError, match=r"none\.yaml: No such file"):
        resolve(tmp_path / "none.yaml")


REFUSED_VARIABLES = [
    ("HOSTLER_DOOR__PROT", "1", "'HOSTLER_DOOR__PORT'"),
    ("HOSTLER_DOOR_PORT", "1", "'HOSTLER_DOOR__PORT'"),
    ("HOSTLER_DOOR_WAIT_S", "1", "'HOSTLER_DOOR__WAIT_S'"),
    ("HOSTLER_X__Y", "1", "`hostler config` lists them all"),
]


@pytest.mark.parametrize(("variable", "value", "meant"), REFUSED_VARIABLES)
def test_a_variable_that_is_no_setting_is_refused(variable: str, value: str, meant: str) -> None:
    with pytest.raises(HostlerError, match=variable) as caught:
        resolve(variables={variable: value})
    assert meant in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HOSTLER_URL", "x"), ("HOSTLER_DOOR_PORT", "tcp://10.0.0.1:80"), ("PATH", "/bin")],
)
def test_variables_that_are_not_ours_are_left_alone(variable: str, value: str) -> None:
    assert not resolve(variables={variable: value}).sources


def test_an_unknown_flag_names_the_nearest_setting() -> None:
    with pytest.raises(HostlerError, match=r"--set: unknown setting 'door.por'.*'door.port'"):
        resolve(door__por="1")


def test_flags_win_over_variables_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "door:\n  port: 1\n  share: 0.1\n  host: file\n")
    found = resolve(file, {"HOSTLER_DOOR__PORT": "2", "HOSTLER_DOOR__SHARE": "0.2"}, door__port="3")
    door = found.settings.door
    assert (door.port, door.share, door.host, door.wait_s) == (3, 0.2, "file", 30.0)
    assert [found.source(f"door.{f}") for f in ("port", "share", "host", "wait_s")] == [
        "--set",
        "HOSTLER_DOOR__SHARE",
        f"{file}:4",
        "default",
    ]


def test_fields_that_contradict_each_other_are_refused_with_their_sources() -> None:
    with pytest.raises(HostlerError, match=r"--set: store: low \(10\) is above high \(9\)"):
        resolve(store__low="10")


def test_nothing_given_is_all_defaults() -> None:
    assert resolve().settings == House()


@pytest.mark.parametrize(
    ("word", "meant"),
    [("door.prot", "door.port"), ("port", "door.port"), ("stroe.mode", "store.mode"), ("q", None)],
)
def test_the_nearest_word(word: str, meant: str | None) -> None:
    assert nearest(word, KNOWN) == meant
