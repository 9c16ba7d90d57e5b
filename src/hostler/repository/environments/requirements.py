"""A requirements.txt, made one with the files that it includes. Pure.

Source: pip, "Requirements File Format" (https://pip.pypa.io/en/stable/reference/requirements-file-format/).
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from hostler.repository.package import contradiction

__all__ = ["Line", "Requirements", "flatten"]

FILES_MAX: Final = 64
LINES_MAX: Final = 10_000
"""Both far above what people write; a file past them is none of theirs."""

_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_ARCHIVES: Final = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_FILE_URL: Final = re.compile(r"(?:^|@\s*)file://(/[^\s;#]+)")
_TOKEN: Final = re.compile(r"[^\s;\[]+")
_OPTION: Final = re.compile(r"(--[a-z-]+)(?:\s*=\s*|\s+|$)(.*)|(-[a-zA-Z])\s*=?\s*(.*)")
_NAME: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*?(?=-\d[^-]*(?:-|\.tar|\.zip)|[\s\[<>=!~;@]|$)"
)
_SEPARATORS: Final = re.compile(r"[-_.]+")
_LONG: Final = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable"} | {
    "-f": "--find-links",
    "-i": "--index-url",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line for pip. `path`: the local file that it names (a part of `text`), or ""."""

    text: str
    path: str = ""

    @property
    def is_option(self) -> bool:
        """Whether it is an option for the whole file, such as --index-url."""
        return self.text.startswith("-")

    def identity(self, digests: Mapping[str, str]) -> str:
        """The line with its file's digest in place of where the file lies."""
        if not self.path:
            return self.text
        name = posixpath.basename(self.path)
        return self.text.replace(self.path, f"{digests[self.path]}/{name}", 1)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What pip is to install, comments and includes resolved, local paths absolute."""

    lines: tuple[Line, ...]
    constraints: tuple[Line, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Local files whose content counts, sorted."""
        return tuple(sorted({line.path for line in (*self.lines, *self.constraints) if line.path}))

    @property
    def options(self) -> tuple[Line, ...]:
        """What holds for whatever else is installed; hashes are known only for what is listed."""
        return tuple(
            line for line in self.lines if line.is_option and line.text != "--require-hashes"
        )

    @property
    def names(self) -> Set[str]:
        """What is listed by name, or as a wheel of that name; as pip compares names."""
        words = [posixpath.basename(line.path) or line.text for line in self.lines]
        found = (_NAME.match(word) for word in words if not word.startswith("-"))
        return {_SEPARATORS.sub("-", match[0]).lower() for match in found if match}


def flatten(model: str, path: str, package: str, read: Callable[[str], str]) -> Requirements:
    """The requirements of a file and of all that it includes, in their order.

    `path`, `package`: normal absolute paths. `read`: gives an included file's text. Includes
    and relative paths end at the package; a local path stands from the folder of `path`, as it
    does for `pip install -r` in that folder.
    Raises: INVALID_ARGUMENT naming file and line; whatever `read` raises.
    """
    reader = _Reader(model, posixpath.dirname(path), package, read)
    reader.visit(path, constraint=False)
    return Requirements(tuple(reader.lines), tuple(reader.constraints))


class _Reader:
    def __init__(self, model: str, folder: str, package: str, read: Callable[[str], str]) -> None:
        self.lines: list[Line] = []
        self.constraints: list[Line] = []
        self._model = model
        self._folder = folder
        self._package = package
        self._read = read
        self._seen: set[tuple[str, bool]] = set()

    def visit(self, path: str, *, constraint: bool) -> None:
        if (path, constraint) in self._seen:
            return
        self._seen.add((path, constraint))
        if len(self._seen) > FILES_MAX:
            raise contradiction(self._model, path, f"includes more than {FILES_MAX} files")
        for number, text in _logical_lines(self._read(path)):
            self._take(text, path, f"{path}:{number}", constraint=constraint)

    def _take(self, text: str, path: str, place: str, *, constraint: bool) -> None:
        if len(self.lines) + len(self.constraints) >= LINES_MAX:
            raise contradiction(self._model, place, f"is past the {LINES_MAX} lines that are read")
        if not text.startswith("-"):
            (self.constraints if constraint else self.lines).append(self._requirement(text, place))
            return
        option, value = _option(text)
        if option in ("--requirement", "--constraint"):
            included = self._inside(value, posixpath.dirname(path), place)
            self.visit(included, constraint=constraint or option == "--constraint")
        elif option == "--editable":
            raise contradiction(
                self._model,
                place,
                "editable installs are not served, since the environment would point into the "
                f"package; build a wheel with `pip wheel --no-deps {value}` and name that",
            )
        elif option == "--find-links" and "://" not in value:
            folder = self._inside(value, posixpath.dirname(path), place, absolute=True)
            self.lines.append(Line(f"{option} {shlex.quote(folder)}"))
        else:
            self.lines.append(Line(text))

    def _requirement(self, text: str, place: str) -> Line:
        url = _FILE_URL.search(text)
        if url is not None:
            return Line(text.replace(url[1], unquote(url[1]), 1), unquote(url[1]))
        token = _TOKEN.match(text)
        word = token[0] if token is not None else ""
        if "://" in text or not (
            word.startswith(".") or "/" in word or word.lower().endswith(_ARCHIVES)
        ):
            return Line(text)
        path = self._inside(word, self._folder, place, absolute=True)
        if not word.lower().endswith(_ARCHIVES):
            raise contradiction(
                self._model,
                place,
                f"'{word}' is a source folder, in which installing would write; build a wheel "
                f"with `pip wheel --no-deps {word}` and name that",
            )
        return Line(path + text[len(word) :], path)

    def _inside(self, value: str, folder: str, place: str, *, absolute: bool = False) -> str:
        """A path within the package. `absolute`: one that says so in full may lie elsewhere."""
        if "://" in value:
            raise contradiction(self._model, place, f"'{value}': only files are included, no URLs")
        path = posixpath.normpath(posixpath.join(folder, value))
        stated = absolute and value.startswith("/")
        if not stated and not f"{path}/".startswith(self._package.rstrip("/") + "/"):
            raise contradiction(
                self._model, place, f"'{value}' leaves the package '{self._package}'; copy it there"
            )
        return path


def _option(text: str) -> tuple[str, str]:
    found = _OPTION.match(text)
    if found is None:
        return text, ""
    if found[1]:
        return found[1], _unquoted(found[2])
    return _LONG.get(found[3], found[3]), _unquoted(found[4])


def _unquoted(value: str) -> str:
    """The value of an option, which pip splits as a shell does."""
    try:
        return next(iter(shlex.split(value)), "")
    except ValueError:  # a quote that is not closed: pip will say so
        return value.strip()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, those that end in a backslash joined; with the first's number."""
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not comment:
            pending += raw[:-1]
            continue
        joined = _COMMENT.sub("", pending if comment else pending + raw).strip()
        if joined:
            yield start, " ".join(joined.split())
        pending, start = "", 0
    last = _COMMENT.sub("", pending).strip()
    if last:
        yield start, " ".join(last.split())
