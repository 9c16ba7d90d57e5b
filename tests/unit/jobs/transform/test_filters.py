"""InputFilter, joins and OutputFilter: tables of what goes to the model and into the output."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.jobs.transform.filters import DataProcessing, RecordForm, check

CSV, JSON = RecordForm.CSV, RecordForm.JSON

INPUTS = [
    (CSV, "$", b'1,"a ""b""" ,3', b'1,"a ""b""" ,3'),
    (CSV, "$[1:]", b"id,1.0,2e5", b"1.0,2e5"),
    (CSV, "$[0]", b'"x,y",2', b'"x,y"'),
    (CSV, "$[-1,0]", b'1, "a ""b"", c" ,3', b"3,1"),
    (CSV, "$[1]", b'1, "a ""b"", c" ,3', b' "a ""b"", c" '),
    (CSV, "$[1:2]", b"1,,", b","),
    (CSV, "$[0]", b"", b""),
    (JSON, "$", b"{not looked at", b"{not looked at"),
    (JSON, "$.features", b'{"id":1, "features": [1.0, 2e5,12345678901234567890123]}',
     b"[1.0, 2e5,12345678901234567890123]"),
    (JSON, "$['b','a']", b'{"a" : 1.0, "b":{ "c":1e5}}', b'{"b":{ "c":1e5},"a":1.0}'),
    (JSON, "$.a.b[1:]", b'{"a":{"b":[1,  2.50 ,"\xc3\xa9"]}}', b'[2.50,"\xc3\xa9"]'),
    (JSON, "$[0]", b'["\\u00e9",1]', b'"\\u00e9"'),
    (JSON, "$.a", b'{"a":NaN,"b":1e5}', b"NaN"),
    (JSON, "$.b", b'{"a":1,"a":NaN,"b":[1e5,-Infinity]}', b"[100000.0,-Infinity]"),
    (JSON, "$.n", b'{"n":123456789012345678901234567890,"a":NaN}',
     b"123456789012345678901234567890"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "path", "record", "expected"), INPUTS)
def test_what_the_model_gets(form: RecordForm, path: str, record: bytes, expected: bytes) -> None:
    assert DataProcessing(form, input_filter=path).model_input(record) == expected


FINALS = [
    (CSV, False, "$", b"1,2", b"0.9,\n", b"0.9,\n"),
    (CSV, False, "$[1]", b"1,2", b"0.9,0.1\n", b"0.1"),
    (CSV, True, "$", b"1,2,3", b"1", b"1,2,3,1"),
    (CSV, True, "$", b'1,"a,b"', b'0.5,"c,d"\r\n', b'1,"a,b",0.5,"c,d"'),
    (CSV, True, "$[0,-1]", b'"id,1",5,6', b"0.5", b'"id,1",0.5'),
    (CSV, True, "$[0,3:]", b"id,5,6", b"0.5,0.6", b"id,0.5,0.6"),
    (JSON, False, "$.score", b"{}", b'{"score": 1.0}', b"1.0"),
    (JSON, True, "$", b'{"key":1}', b'{"label":1}', b'{"key":1,"SageMakerOutput":{"label":1}}'),
    (JSON, True, "$", b'{"key":1e5, "n":12345678901234567890123}', b" 1.0\n",
     b'{"key":1e5,"n":12345678901234567890123,"SageMakerOutput":1.0}'),
    (JSON, True, "$", b"{}", b"[1, 2]", b'{"SageMakerOutput":[1, 2]}'),
    (JSON, True, "$", b"[1, 2]", b"3", b'{"SageMakerInput":[1, 2],"SageMakerOutput":3}'),
    (JSON, True, "$", b'"text"', b"null", b'{"SageMakerInput":"text","SageMakerOutput":null}'),
    (JSON, True, "$", b'{"a":1}', b"[NaN, 1e5]", b'{"a":1,"SageMakerOutput":[NaN, 1e5]}'),
    (JSON, True, "$", b'{"a":NaN}', b"1", b'{"a":NaN,"SageMakerOutput":1}'),
    (JSON, True, "$['id','SageMakerOutput']", b'{"id":7,"x":[1]}', b'{"s":0.50}',
     b'{"id":7,"SageMakerOutput":{"s":0.50}}'),
    (JSON, True, "$.SageMakerOutput.s", b'{"id":7}', b'{"s":0.50}', b"0.50"),
    (JSON, True, "$", b'{"a":1}', b'{\n "s": 1e5\n}', b'{"a":1,"SageMakerOutput":{"s":1e5}}'),
    (JSON, True, "$", b'{"a":1}', b"[\nNaN]", b'{"a":1,"SageMakerOutput":[NaN]}'),
]  # fmt: skip


@pytest.mark.parametrize(("form", "join", "path", "record", "answer", "expected"), FINALS)
def test_what_is_written(
    form: RecordForm, join: bool, path: str, record: bytes, answer: bytes, expected: bytes
) -> None:
    processing = DataProcessing(form, output_filter=path, join=join)
    assert processing.final(record, answer) == expected


def test_a_filter_that_selects_nothing_names_itself_and_the_record() -> None:
    with pytest.raises(HostlerError) as info:
        DataProcessing(CSV, input_filter="$[3]").model_input(b"1,2,3")
    assert info.value.code is Code.INVALID_ARGUMENT
    assert info.value.message == (
        "InputFilter '$[3]' selects nothing of '1,2,3': index 3 is outside of 3 values"
    )
    with pytest.raises(HostlerError, match=r"OutputFilter '\$.x' selects nothing of '{\"id\""):
        DataProcessing(JSON, output_filter="$.x", join=True).final(b'{"id":1}', b"1")


UNJOINED = [
    (CSV, b"1,2", b"", "answered nothing for the record '1,2'"),
    (CSV, b"1,2", b" \n", "answered nothing"),
    (CSV, b"1,2", b"3\n4\n", "more than one line: '3\\\\n4\\\\n'"),
    (JSON, b'{"a":1}', b"", "answered nothing"),
    (JSON, b'{"a":1}', b"1\n2", "is not JSON"),
    (JSON, b'{"a":1}', b"a,b", "'a,b' is not JSON"),
    (JSON, b'{"a":1', b"1", "is not JSON"),
    (JSON, b'{"a":"\xff"}', b"1", "is not JSON"),
    (JSON, b'"a"'.decode().encode("utf-16-le"), b"1", "is not JSON"),
    (JSON, b"[" * 100_000, b"1", "is nested too deeply|is not JSON"),
    (JSON, b'{"SageMakerOutput":0}', b"1", "has a 'SageMakerOutput' already"),
    (JSON, b'{"\\ud800":NaN}', b"1", "no Unicode text"),
]


@pytest.mark.parametrize(
    ("form", "record", "answer", "reason"), UNJOINED, ids=[str(i) for i in range(len(UNJOINED))]
)
def test_what_cannot_be_joined(form: RecordForm, record: bytes, answer: bytes, reason: str) -> None:
    with pytest.raises(HostlerError, match=reason) as info:
        DataProcessing(form, join=True).final(record, answer)
    assert info.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("row", [b'1,"2', b'1,2"', b'1,"2"3', b'1,"2""', b'5" pipe,1'])
def test_a_quote_out_of_place_is_refused(row: bytes) -> None:
    with pytest.raises(HostlerError, match=r"column [01] \(from 0\) .* has a quote"):
        DataProcessing(CSV, input_filter="$[0]").model_input(row)


def test_long_records_are_shown_by_their_beginning() -> None:
    with pytest.raises(HostlerError) as info:
        DataProcessing(CSV, input_filter="$[1]").model_input(b"x" * 1000)
    assert f"of '{'x' * 40}'...: " in info.value.message


PREDICTIONS = [
    (CSV, b"1\n2\n", 2, [b"1", b"2"]),
    (CSV, b"1\r\n2", 2, [b"1", b"2"]),
    (CSV, b"0.5,0.6", 1, [b"0.5,0.6"]),
    (JSON, b'{"a":1}\n{"a":2}\n\n', 2, [b'{"a":1}', b'{"a":2}']),
    (JSON, b'{\n "a": 1\n}\n', 1, [b'{\n "a": 1\n}']),
    (JSON, b'{"a": NaN}\n', 1, [b'{"a": NaN}']),
    (CSV, b"", 0, []),
]


@pytest.mark.parametrize(("form", "body", "records", "expected"), PREDICTIONS)
def test_an_answer_is_cut_into_one_for_each_record(
    form: RecordForm, body: bytes, records: int, expected: list[bytes]
) -> None:
    assert DataProcessing(form, join=True).predictions(body, records) == expected


@pytest.mark.parametrize(
    ("form", "body", "records", "reason"),
    [
        (CSV, b"1\n2\n", 3, "3 records with 2 lines: '1.*SingleRecord"),
        (CSV, b"1\n2\n", 1, "1 record with 2 lines.*it must be one line"),
        (CSV, b"", 1, "1 record with 0 lines"),
        (CSV, b"1\n\n3\n", 2, "2 records with 3 lines"),
        (JSON, b"[1,2,3]", 3, "3 records with 1 line: "),
        (JSON, b"\n", 1, "1 record with 0 lines"),
        (JSON, b"1\n2", 1, "is not JSON"),
    ],
)
def test_an_answer_with_another_number_is_refused(
    form: RecordForm, body: bytes, records: int, reason: str
) -> None:
    with pytest.raises(HostlerError, match=reason):
        DataProcessing(form, join=True).predictions(body, records)


@pytest.mark.parametrize(
    ("settings", "active"),
    [
        ({}, False),
        ({"join": True}, True),
        ({"input_filter": "$[0]"}, True),
        ({"output_filter": "$[0]"}, True),
    ],
)
def test_whether_there_is_anything_to_do(settings: dict[str, object], active: bool) -> None:
    assert DataProcessing(CSV, **settings).active is active  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"input_filter": "$.a"}, r"InputFilter '\$.a' cannot be used on CSV"),
        ({"output_filter": "$[0][1]"}, r"OutputFilter '\$\[0\]\[1\]' cannot be used on CSV"),
        ({"output_filter": "a"}, "OutputFilter: the JSONPath 'a' is wrong at character 1"),
    ],
)
def test_a_wrong_filter_is_refused_before_the_job(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(HostlerError, match=reason):
        DataProcessing(CSV, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        (("text/csv", "text/csv", "Line", "Line"), CSV),
        (("text/csv; header=absent", "Text/CSV", "Line", "Line"), CSV),
        (("application/jsonlines", "application/jsonlines", "Line", "Line"), JSON),
        (("application/json", "application/json", "Line", "Line"), JSON),
        (("application/json", "application/json", "None", "None"), JSON),
    ],
)
def test_settings_that_go_with_data_processing(
    settings: tuple[str, str, str, str], form: RecordForm
) -> None:
    assert check(*settings) is form


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("", "text/csv", "Line", "Line"), "needs a ContentType of text/csv, .* has ''"),
        (("image/png", "image/png", "None", "None"), "has 'image/png'"),
        (("text/csv", "", "Line", "Line"), "set TransformOutput.Accept to text/csv"),
        (("text/csv", "application/json", "Line", "Line"), "has 'application/json'"),
        (("text/csv", "text/csv", "None", "Line"), "needs SplitType Line, but the job has 'None'"),
        (("text/csv", "text/csv", "Line", "None"), "needs AssembleWith Line"),
        (("application/jsonlines", "application/jsonlines", "None", "Line"), "needs SplitType"),
        (("application/json", "application/json", "Line", "None"), "needs AssembleWith Line"),
        (("application/json", "application/json", "RecordIO", "Line"), "or None, for one document"),
    ],
)
def test_settings_that_do_not_go_with_data_processing(
    settings: tuple[str, str, str, str], reason: str
) -> None:
    with pytest.raises(HostlerError, match=reason) as info:
        check(*settings)
    assert info.value.code is Code.INVALID_ARGUMENT
