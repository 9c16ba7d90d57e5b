"""JSONPath as batch transform has it: what is selected, and which mistake is where."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.core import Code, HostlerError
from hostler.jobs.transform.jsonpath import NoMatch, parse

DOCUMENT: dict[str, Any] = {
    "id": 7,
    "a": {"b": [10, 20, {"c": "x"}], "child 1": 1, "child2": None},
    "rows": [{"k": 1, "v": 2}, {"k": 3}, 5],
    "it's": True,
    "SageMakerOutput": {"score": 0.5},
}
ROW = list(range(10, 16))

SELECTED: list[tuple[str, Any, Any]] = [
    ("$", DOCUMENT, DOCUMENT),
    ("$", 5, 5),
    ("$.id", DOCUMENT, 7),
    ("$.a.child2", DOCUMENT, None),
    ("$['id']", DOCUMENT, 7),
    ('$["id"]', DOCUMENT, 7),
    ("$['a']['child 1']", DOCUMENT, 1),
    ("$.a.['child 1']", DOCUMENT, 1),
    (r"$['it\'s']", DOCUMENT, True),
    ("$['id','SageMakerOutput']", DOCUMENT, {"id": 7, "SageMakerOutput": {"score": 0.5}}),
    ("$[ 'SageMakerOutput' , 'id' ]", DOCUMENT, {"SageMakerOutput": {"score": 0.5}, "id": 7}),
    ("$['id','missing']", DOCUMENT, {"id": 7}),
    ("$.a['child 1','child2']", DOCUMENT, {"child 1": 1, "child2": None}),
    ("$.a.b[0]", DOCUMENT, 10),
    ("$.a.b[-1].c", DOCUMENT, "x"),
    ("$.a.b[0,2].c", DOCUMENT, ["x"]),
    ("$.a.*", DOCUMENT, [[10, 20, {"c": "x"}], 1, None]),
    ("$.rows[*].k", DOCUMENT, [1, 3]),
    ("$.rows[*]['k','v']", DOCUMENT, [{"k": 1, "v": 2}, {"k": 3}]),
    ("$.rows[0:1].k", DOCUMENT, [1, 3]),
    ("$[0]", ROW, 10),
    ("$[-1]", ROW, 15),
    ("$[0,3]", ROW, [10, 13]),
    ("$[0,-1]", ROW, [10, 15]),
    ("$[3,0,0]", ROW, [13, 10, 10]),
    ("$[*]", ROW, ROW),
    ("$.*", ROW, ROW),
    ("$[1:]", ROW, ROW[1:]),
    # Both ends are part of a slice: "the second through fifth columns", "through the sixth".
    ("$[1:4]", ROW, [11, 12, 13, 14]),
    ("$[:5]", ROW, ROW),
    ("$[:2]", ROW, [10, 11, 12]),
    ("$[2:2]", ROW, [12]),
    ("$[-2:]", ROW, [14, 15]),
    ("$[-3:-2]", ROW, [13, 14]),
    ("$[:]", ROW, ROW),
    ("$[0,5:]", ROW, [10, 15]),
    ("$[0:1,4:]", ROW, [10, 11, 14, 15]),
]


@pytest.mark.parametrize(("text", "value", "expected"), SELECTED)
def test_what_a_path_selects(text: str, value: Any, expected: Any) -> None:
    assert parse(text).select(value) == expected


NOTHING = [
    ("$.missing", DOCUMENT, "there is no 'missing'"),
    ("$['x','y']", DOCUMENT, "there is no 'x', 'y'"),
    ("$.id.x", DOCUMENT, "'x' is asked of a value that is neither"),
    ("$.rows.k", DOCUMENT, "'k' is asked of a value that is an array"),
    ("$[0]", DOCUMENT, "an index is asked of a value that is an object"),
    ("$[0]", "text", "neither an object nor an array"),
    ("$.id.*", DOCUMENT, "neither an object nor an array"),
    ("$[6]", ROW, "index 6 is outside of 6 values"),
    ("$[-7]", ROW, "index -7 is outside of 6 values"),
    ("$[0,6]", ROW, "index 6 is outside"),
    ("$[6:]", ROW, "index 6 is outside"),
    ("$[1:6]", ROW, "index 6 is outside"),
    ("$[3:1]", ROW, "the slice from index 3 through 1 is empty"),
    ("$[:]", [], "empty array"),
    ("$[*]", [], "nothing to select from"),
    ("$.rows[*].z", DOCUMENT, "is asked of"),
]


@pytest.mark.parametrize(("text", "value", "reason"), NOTHING)
def test_a_path_that_selects_nothing_says_why(text: str, value: Any, reason: str) -> None:
    with pytest.raises(NoMatch, match=reason):
        parse(text).select(value)


WRONG = [
    ("", 0, "begins with"),
    ("a", 0, "begins with"),
    (" $", 0, "begins with"),
    ("$a", 1, "'.' or '\\[' must follow"),
    ("$.", 2, "a name must follow"),
    ("$..a", 2, "'..' is not supported"),
    ("$.a b", 3, "'.' or '\\[' must follow"),
    ("$.'a'", 2, "a name must follow"),
    ("$[", 2, "an index, a slice"),
    ("$[]", 2, "an index, a slice"),
    ("$[a]", 2, "an index, a slice"),
    ("$[1", 3, "']' must close"),
    ("$[1,]", 4, "an index, a slice"),
    ("$[1.5]", 3, "']' must close"),
    ("$[1:2:3]", 5, "no step"),
    ("$['a", 2, "quotes that are closed"),
    ("$['a',]", 6, "quotes that are closed"),
    ("$['a',1]", 6, "quotes that are closed"),
    ("$[1,'a']", 4, "an index, a slice"),
    ("$[?(@.a>1)]", 2, "conditions and scripts"),
    ("$[*,1]", 3, "']' must close"),
    ("$['a','b'].c", 10, "nothing can follow several names"),
]


@pytest.mark.parametrize(("text", "position", "reason"), WRONG)
def test_a_mistake_is_told_with_its_place(text: str, position: int, reason: str) -> None:
    with pytest.raises(HostlerError, match=f"at character {position + 1}, .*{reason}") as info:
        parse(text)
    assert info.value.code is Code.INVALID_ARGUMENT
    assert info.value.details == {"path": text, "position": position}


def test_a_path_has_at_most_63_characters() -> None:
    assert parse("$." + "a" * 61).select({"a" * 61: 1}) == 1
    with pytest.raises(HostlerError, match="has 64 characters; at most 63"):
        parse("$." + "a" * 62)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("$", [0, 1, 2]), ("$[1]", [1]), ("$[-1,0]", [2, 0]), ("$[1:]", [1, 2]), ("$[*]", [0, 1, 2])],
)
def test_columns_of_a_row_of_three(text: str, columns: list[int]) -> None:
    assert parse(text).of_columns
    assert parse(text).columns(3) == columns


@pytest.mark.parametrize("text", ["$.a", "$['a']", "$[0][0]", "$[*].a"])
def test_what_is_no_path_of_columns(text: str) -> None:
    assert not parse(text).of_columns


@pytest.mark.parametrize("text", ["$" + "[:,:]" * 5, "$[" + ",".join(["0"] * 17) + "]"])
def test_a_path_may_not_make_many_copies_of_a_value(text: str) -> None:
    with pytest.raises(HostlerError, match="more than 16 times"):
        parse(text)


def test_a_few_copies_are_fine() -> None:
    assert parse("$[0,0,-1]").select([1, 2]) == [1, 1, 2]
    assert parse("$" + "[:,:]" * 4).select([[[["a"]]]]) == ["a"] * 16
    parse("$[" + ",".join(map(str, range(20))) + "][0,1,2]")
