"""House rules that no linter knows, each with what to do instead."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hostler"
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
MAKE_TARGETS_MAX = 16
LINES_PER_IGNORE = 1000

Node = ast.AST


def _files(*folders: Path) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*.py")
        if not path.stem.endswith("_pb2") and not any(p.startswith(".") for p in path.parts)
    )


OURS = _files(SOURCE)
ALL = _files(SOURCE, ROOT / "tests", ROOT / "bench", ROOT / "examples")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PURE_PATTERNS = PYPROJECT["tool"]["hostler"]["pure"]
PURE = [path for path in OURS if any(path in SOURCE.glob(name) for name in PURE_PATTERNS)]

# protocols is a corridor: each wire in it is a door of its own. Nobody imports the worker.
DOORS = sorted(
    ".".join(path.parent.relative_to(SOURCE).parts)
    for path in [*SOURCE.glob("*/__init__.py"), *SOURCE.glob("protocols/*/__init__.py")]
    if path.parent.name not in ("protocols", "worker")
)

# Names and parameters in these files are somebody else's public interface, here Triton's.
FOREIGN = [
    SOURCE / "worker" / "model_config.py",
    SOURCE / "worker" / "pb_request.py",
    SOURCE / "worker" / "triton_python_backend_utils.py",
]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _in(path: Path, *places: str) -> bool:
    return any(path.is_relative_to(SOURCE / place) for place in places)


def _dotted(node: Node) -> str:
    """`a.b.c` of a chain of attributes, else an empty text."""
    if isinstance(node, ast.Attribute):
        left = _dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return node.id if isinstance(node, ast.Name) else ""


_CHANCE = ("telemetry", "gateway", "placement/process/placement.py")  # edges that hand it on

# (what may not be named, where it may, what to use instead)
BANNED_NAMES = [
    (r"time\.(time|monotonic|perf_counter)(_ns)?", ("core/clock.py", "worker"), "core.Clock"),
    (r"time\.sleep", ("worker",), "await asyncio.sleep, or a deadline of core.Clock"),
    (r"datetime\.(datetime\.)?(now|utcnow)", (), "core.Clock.wall"),
    (r"os\.(environ|environb|getenv|putenv)\b.*", ("config", "worker"), "a setting in config"),
    (r"random\..*|uuid\.uuid[14]|secrets\..*", _CHANCE, "a parameter"),
    (r"pickle\..*|marshal\..*", ("worker",), "JSON and raw buffers"),
]
BANNED_CALLS = [
    (r"print", ("cli", "worker"), "logging, with an event's fields in `extra`"),
    (r"eval|exec", (), "a table"),
]
BANNED_IMPORTS = [
    (r"pickle|cPickle|dill|shelve", ("worker",), "JSON and raw buffers"),
    (r"requests|httpx|aiohttp|fastapi|flask|pydantic|boto3", (), "the standard library"),
    (r"onnxruntime", ("runtimes",), "the runtimes room"),
    (r"torch|tensorflow|sklearn", ("worker",), "a worker process"),
    (r"uvicorn|uvloop|httptools", ("gateway", "app"), "the gateway room"),
    (r"prometheus_client|opentelemetry", ("telemetry",), "the telemetry room"),
    (r"typer|click|rich", ("cli",), "the cli room"),
    (r"yaml", ("config",), "the config room"),
]
BANNED_SUFFIXES = ("Manager", "Helper", "Helpers", "Utils", "Handler", "Data", "Info", "Exception")
BANNED_TEXT = re.compile(r"\b(FIXME|TODO|XXX|HACK)\b")


def _banned(path: Path, found: str, table: list[tuple[str, tuple[str, ...], str]]) -> str | None:
    for pattern, places, instead in table:
        if re.fullmatch(pattern, found) and not _in(path, *places):
            return instead
    return None


def _imports(node: Node) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def _offences(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        where = f"{_name(path)}:{getattr(node, 'lineno', 0)}"
        dotted = _dotted(node) if isinstance(node, ast.Attribute) else ""
        if dotted and (instead := _banned(path, dotted, BANNED_NAMES)):
            yield f"{where}: {dotted}; use {instead}"
        called = _dotted(node.func) if isinstance(node, ast.Call) else ""
        if called and (instead := _banned(path, called, BANNED_CALLS)):
            yield f"{where}: {called}(); use {instead}"
        for module in _imports(node):
            if instead := _banned(path, module.partition(".")[0], BANNED_IMPORTS):
                yield f"{where}: import {module}; use {instead}"
        if isinstance(node, ast.ExceptHandler):
            yield from _swallowing(node, where)
        if isinstance(node, ast.ClassDef) and path not in FOREIGN and _vague(node):
            yield f"{where}: class {node.name}; name the thing in the field's words"


def _vague(node: ast.ClassDef) -> bool:
    ours = not any(_dotted(base).startswith("logging.") for base in node.bases)
    return ours and node.name.endswith(BANNED_SUFFIXES)


def _swallowing(node: ast.ExceptHandler, where: str) -> Iterator[str]:
    if node.type is None:
        yield f"{where}: bare except; name the exceptions"
    broad = _dotted(node.type) in ("Exception", "BaseException") if node.type else True
    silent = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
    if broad and silent:
        yield f"{where}: an error vanishes here; handle it, or log it once"


@pytest.mark.parametrize("path", OURS, ids=_name)
def test_source_uses_nothing_banned(path: Path) -> None:
    assert not list(_offences(path))


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_files_are_short_and_finished(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= FILE_LINES_MAX, "split it along its nouns"
    if path != Path(__file__):
        left = [
            f"{_name(path)}:{i}: {line}"
            for i, line in enumerate(lines, 1)
            if BANNED_TEXT.search(line)
        ]
        assert not left, "finish it, or file an issue"


@pytest.mark.parametrize("path", OURS, ids=_name)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    for node in _functions(path):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counted = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        where = f"{_name(path)}:{node.lineno} {node.name}"
        assert length <= FUNCTION_LINES_MAX, f"{where} has {length} lines: push its loops down"
        few = len(counted) <= PARAMETERS_MAX or path in FOREIGN
        assert few, f"{where} has {len(counted)} parameters: make them a struct"


@pytest.mark.parametrize("path", OURS, ids=_name)
def test_imports_inside_functions_say_why(path: Path) -> None:
    lines = path.read_text().splitlines()
    for function in _functions(path):
        for node in ast.walk(function):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            own = "#" in lines[node.lineno - 1] or "#" in lines[(node.end_lineno or 1) - 1]
            above = "#" in lines[node.lineno - 2] or _imports_above(lines, node.lineno)
            assert own or above, f"{_name(path)}:{node.lineno}: import at the top, or say why not"


def _imports_above(lines: list[str], line: int) -> bool:
    """Whether a comment stands above the block of imports that this line belongs to."""
    index = line - 2
    while index >= 0 and re.match(r"\s*(from|import)\s", lines[index]):
        index -= 1
    return lines[index].lstrip().startswith("#")


IMPURE = ("asyncio", "time", "os", "threading", "random", "socket", "subprocess", "logging",
          "hostler.telemetry")  # fmt: skip


@pytest.mark.parametrize("pattern", PURE_PATTERNS)
def test_the_list_of_pure_files_is_up_to_date(pattern: str) -> None:
    assert list(SOURCE.glob(pattern)), "remove it from pyproject.toml"


@pytest.mark.parametrize("path", PURE, ids=_name)
def test_pure_files_import_no_edge(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        for module in _imports(node):
            found = [name for name in IMPURE if module == name or module.startswith(f"{name}.")]
            assert not found, f"{_name(path)} is pure: take what {found[0]} gives as a parameter"
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{_name(path)} is pure"


@pytest.mark.parametrize("path", PURE, ids=_name)
def test_public_names_of_pure_files_have_contracts(path: Path) -> None:
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{_name(path)}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("room", DOORS)
def test_every_public_name_of_a_door_has_a_contract(room: str) -> None:
    door = importlib.import_module(f"hostler.{room}")
    assert inspect.getdoc(door), f"hostler.{room}: say what question this room answers"
    assert list(door.__all__), f"hostler.{room}: __all__ names what other rooms may use"
    for name in door.__all__:
        thing = getattr(door, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            said = thing.__doc__ or ""
            written = said.strip() and not said.startswith(f"{name}(")  # dataclasses invent one
            assert written, f"hostler.{room}.{name} has no docstring"


def test_rooms_are_entered_by_their_doors() -> None:
    offences = []
    for path in OURS:
        own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                parts = (node.module or "").split(".")
                inside = len(parts) > 2 and parts[0] == "hostler" and parts[1] != own
                # A wire's folder is a door; so is each runtime, loaded when a model needs it.
                folder = parts[1:2] == ["protocols"] and SOURCE.joinpath(*parts[1:]).is_dir()
                if inside and not folder and parts[1] != "runtimes":
                    offences.append(f"{_name(path)}:{node.lineno}: {node.module}")
    assert not offences, "import from the room's door"


def test_no_module_is_dead() -> None:
    texts = {path: path.read_text() for path in OURS}
    rest = (ROOT / "pyproject.toml").read_text() + (ROOT / "Makefile").read_text()
    for path in OURS:
        stem = path.parent.name if path.stem in ("__init__", "__main__") else path.stem
        others = [text for other, text in texts.items() if other != path]
        named = any(re.search(rf"\b{stem}\b", text) for text in [*others, rest])
        assert named, f"{_name(path)} is imported nowhere; remove it"


def test_type_ignores_are_rare_and_coded() -> None:
    lines = [line for path in OURS for line in path.read_text().splitlines()]
    ignores = [line for line in lines if re.search(r"#\s*type:\s*ignore", line)]
    assert all("ignore[" in line for line in ignores)
    assert len(ignores) <= max(1, round(len(lines) / LINES_PER_IGNORE)), ignores


def test_the_makefile_explains_its_few_targets() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    explained = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    assert sorted(explained) == sorted(phony[1].split())
    assert len(explained) <= MAKE_TARGETS_MAX
