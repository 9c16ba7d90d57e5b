r"""The JSONPath of batch transform's filters: parse once, select from each record. Pure.

    path  = "$" step*
    step  = "." name | ".*" | ["."] "[" items "]"
    items = "*" | text ("," text)* | item ("," item)*
    item  = index | [index] ":" [index]              negative ones count from the end
    text  = a name in '' or "", with \ before a quote or a backslash

What comes out:

- one value, as long as each step names one: `$.a[0].b`;
- an object of several names: `$['id','score']`. Names that are not there are left out, and so are
  their values; with none of them there nothing matches;
- an array of all values else: of several indexes, a slice, `*`, and all steps after such a one.
  What has no such child there is left out; with none left nothing matches.

An index outside the array is an error, also one of several or as the bound of a slice: "If you
specify indexes that aren't within the dimension size of the joined dataset, you get an error".

CHOICE: the end of a slice is inclusive, as SageMaker documents it ("inclusive. For example,
`$[1:4]` specifies the second through fifth columns"), though Python and most JSONPaths mean
otherwise: a job brought from there must keep its columns. `$[:-1]` is all, then.
CHOICE: indexes and slices may stand together (`$[0,5:]` is SageMaker's own example).

Source: batch-transform-data-processing.md, "Supported JSONPath Operators"; API_DataProcessing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from hostler.core import Code, HostlerError

__all__ = ["COPIES_MAX", "PATH_CHARS_MAX", "NoMatch", "Path", "parse"]

PATH_CHARS_MAX: Final = 63
"""Of JsonPath in SageMaker's service description."""

COPIES_MAX: Final = 16
"""How often one value may come out: `$[:,:][:,:]...` would else make gigabytes of a record."""

_NAME: Final = re.compile(r"[^\s.\[\]*'\",:?()@$]+")
_TEXT: Final = re.compile(r"""'((?:[^'\\]|\\['"\\])*)'|"((?:[^"\\]|\\['"\\])*)\"""")
_ESCAPE: Final = re.compile(r"\\(.)")
_INDEX: Final = re.compile(r"-?[0-9]+")
_SPACE: Final = re.compile(r" *")


class NoMatch(Exception):
    """The path selects nothing of this value; the text says which step fails, and why."""


@dataclass(frozen=True, slots=True)
class _All:
    """`*`: each child."""


@dataclass(frozen=True, slots=True)
class _Names:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Slice:
    """Both ends are part of it; None: as far as the array goes."""

    begin: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class _Indexes:
    items: tuple[int | _Slice, ...]

    @property
    def one(self) -> bool:
        return len(self.items) == 1 and isinstance(self.items[0], int)


_Step = _All | _Names | _Indexes


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed filter."""

    text: str
    steps: tuple[_Step, ...]

    @property
    def everything(self) -> bool:
        """Whether this is `$`."""
        return not self.steps

    @property
    def of_columns(self) -> bool:
        """Whether it may be used on a row of CSV: one step of indexes or `*`, or `$`."""
        return len(self.steps) <= 1 and not any(isinstance(step, _Names) for step in self.steps)

    def select(self, value: Any, opened: Callable[[Any], Any] = _as_it_is) -> Any:
        """What the path selects of a JSON value.

        `opened`: given a value, returns it with its children reachable (a mapping, a sequence, or
        anything else for a value without children). Objects and arrays that come out are new.
        Raises: NoMatch.
        """
        nodes, several = [value], False
        for step in self.steps:
            found: list[Any] = []
            problem = "there is nothing to select from"
            for node in nodes:
                try:
                    found += _children(step, opened(node))
                except NoMatch as error:
                    if not several:
                        raise
                    problem = str(error)
            if not found:
                raise NoMatch(problem)
            nodes = found
            several = several or isinstance(step, _All)
            several = several or (isinstance(step, _Indexes) and not step.one)
        return nodes if several else nodes[0]

    def columns(self, count: int) -> list[int]:
        """Which of `count` columns the path selects, in its order. Raises: NoMatch."""
        found = self.select(range(count))
        return [found] if isinstance(found, int) else list(found)


def _children(step: _Step, value: Any) -> list[Any]:
    is_object = isinstance(value, Mapping)
    is_array = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if isinstance(step, _All):
        if not is_object and not is_array:
            raise NoMatch("'*' stands at a value that is neither an object nor an array")
        return list(value.values()) if is_object else list(value)
    if isinstance(step, _Names):
        if not is_object:
            kind = "an array" if is_array else "neither an object nor an array"
            raise NoMatch(f"{_listed(step.names)} is asked of a value that is {kind}")
        found = {name: value[name] for name in step.names if name in value}
        if not found:
            raise NoMatch(f"there is no {_listed(step.names)}")
        return list(found.values()) if len(step.names) == 1 else [found]
    if not is_array:
        kind = "an object" if is_object else "neither an object nor an array"
        raise NoMatch(f"an index is asked of a value that is {kind}")
    children: list[Any] = []
    for item in step.items:
        if isinstance(item, int):
            children.append(value[_place(item, len(value))])
        else:
            children += _sliced(item, value)
    return children


def _sliced(item: _Slice, value: Sequence[Any]) -> list[Any]:
    count = len(value)
    if not count:
        raise NoMatch("a slice is asked of an empty array")
    begin = 0 if item.begin is None else _place(item.begin, count)
    end = count - 1 if item.end is None else _place(item.end, count)
    if begin > end:
        raise NoMatch(f"the slice from index {begin} through {end} is empty")
    return list(value[begin : end + 1])


def _place(index: int, count: int) -> int:
    if not -count <= index < count:
        raise NoMatch(f"index {index} is outside of {count} values")
    return index % count


def _copies(step: _Step) -> int:
    """How often a step may select one child, at most."""
    if not isinstance(step, _Indexes):
        return 1
    plain = Counter(item for item in step.items if isinstance(item, int))
    slices = len(step.items) - plain.total()
    # From the beginning and from the end, two numbers may mean one child.
    ends = [
        max((n for i, n in plain.items() if (i < 0) is side), default=0) for side in (False, True)
    ]
    return max(1, slices + sum(ends))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def parse(text: str) -> Path:
    """The path that `text` is. Raises: INVALID_ARGUMENT that tells the place of a mistake."""
    if len(text) > PATH_CHARS_MAX:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            f"the JSONPath {text[:PATH_CHARS_MAX]!r}... has {len(text)} characters; at most "
            f"{PATH_CHARS_MAX} are taken: select a parent, or rename the attributes",
        )
    return _Parser(text).path()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def path(self) -> Path:
        self._expect("$", "a JSONPath begins with '$', which alone is the whole record")
        steps: list[_Step] = []
        while self._at < len(self._text):
            if steps and isinstance(steps[-1], _Names) and len(steps[-1].names) > 1:
                raise self._wrong("nothing can follow several names")
            steps.append(self._step())
        if prod(map(_copies, steps)) > COPIES_MAX:
            raise self._wrong(f"it selects values more than {COPIES_MAX} times; name each once")
        return Path(self._text, tuple(steps))

    def _step(self) -> _Step:
        dot = self._taken(".")
        if self._taken("["):
            items = self._items()
            self._expect("]", "']' must close the brackets")
            return items
        if not dot:
            raise self._wrong("'.' or '[' must follow")
        if self._next() == ".":
            raise self._wrong("'..' is not supported: write all names from '$' on")
        if self._taken("*"):
            return _All()
        name = self._match(_NAME)
        if name is None:
            raise self._wrong("a name must follow '.'; write others as ['a name']")
        return _Names((name[0],))

    def _items(self) -> _Step:
        self._match(_SPACE)
        if self._next() in ("?", "("):
            raise self._wrong("conditions and scripts are not supported")
        if self._taken("*"):
            self._match(_SPACE)
            return _All()
        if self._next() in ("'", '"'):
            return _Names(tuple(dict.fromkeys(self._list(self._name))))
        return _Indexes(tuple(self._list(self._index)))

    def _list(self, item: Callable[[], Any]) -> list[Any]:
        items = []
        while True:
            self._match(_SPACE)
            items.append(item())
            self._match(_SPACE)
            if not self._taken(","):
                return items

    def _name(self) -> str:
        found = self._match(_TEXT)
        if found is None:
            raise self._wrong("a name in quotes that are closed must stand here")
        return _ESCAPE.sub(r"\1", found[1] if found[1] is not None else found[2])

    def _index(self) -> int | _Slice:
        begin = self._match(_INDEX)
        self._match(_SPACE)
        if not self._taken(":"):
            if begin is None:
                raise self._wrong("an index, a slice, '*' or a name in quotes must stand here")
            return int(begin[0])
        self._match(_SPACE)
        end = self._match(_INDEX)
        self._match(_SPACE)
        if self._next() == ":":
            raise self._wrong("a slice has no step here: [begin:end], both of them included")
        return _Slice(int(begin[0]) if begin else None, int(end[0]) if end else None)

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _taken(self, char: str) -> bool:
        if self._next() != char:
            return False
        self._at += 1
        return True

    def _expect(self, char: str, message: str) -> None:
        if not self._taken(char):
            raise self._wrong(message)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _wrong(self, message: str) -> HostlerError:
        here = f"before {self._next()!r}" if self._next() else "at the end"
        return HostlerError(
            Code.INVALID_ARGUMENT,
            f"the JSONPath {self._text!r} is wrong at character {self._at + 1}, {here}: {message}",
            details={"path": self._text, "position": self._at},
        )
