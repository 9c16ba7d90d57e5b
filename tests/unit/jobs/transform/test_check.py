"""What goes with what in a plan."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.transform import plan

from hostler.core import Code, HostlerError
from hostler.jobs.transform.check import check_plan, processing
from hostler.jobs.transform.plan import Assemble, Errors, Filters, Split, Strategy, Table, TableForm

MIB = 1 << 20
CSV: dict[str, Any] = {
    "content_type": "text/csv",
    "accept": "text/csv",
    "split": Split.LINE,
    "assemble": Assemble.LINE,
}
PARQUET = Table(form=TableForm.PARQUET)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strategy": Strategy.MULTI, "split": Split.NONE},
        {"payload_bytes_max": 0, "concurrency": 1000},
        {"payload_bytes_max": 100 * MIB, "concurrency": 1},
        {"payload_bytes_max": MIB, "concurrency": 100},
        {**CSV, "filters": Filters(join=True)},
        {"errors": Errors(skip=True, records_max=0)},
        {"table": PARQUET},
        {"table": Table(form=TableForm.CSV), "gzip": True},
    ],
    ids=str,
)
def test_fine(options: dict[str, Any]) -> None:
    check_plan(plan(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"payload_bytes_max": -1}, ["MaxPayloadInMB"]),
        ({"payload_bytes_max": 101 * MIB}, ["MaxPayloadInMB is 101", "100"]),
        ({"concurrency": -1}, ["MaxConcurrentTransforms is -1"]),
        (
            {"payload_bytes_max": 6 * MIB, "concurrency": 17},
            ["MaxConcurrentTransforms (17)", "MaxPayloadInMB (6)", "100"],
        ),
        ({"timeout_s": 0.0}, ["InvocationsTimeoutInSeconds"]),
        ({"retries_max": -1}, ["InvocationsMaxRetries"]),
        ({"errors": Errors(records_max=3)}, ["at most 3 records", "not skipped"]),
        ({"errors": Errors(skip=True, records_max=-1)}, ["0 or more"]),
        ({**CSV, "filters": Filters(input="$[")}, ["InputFilter"]),
        (
            {**CSV, "split": Split.NONE, "filters": Filters(join=True)},
            ["SplitType", "DataProcessing"],
        ),
        ({**CSV, "assemble": Assemble.NONE, "filters": Filters(join=True)}, ["AssembleWith"]),
        ({**CSV, "accept": "", "filters": Filters(join=True)}, ["Accept", "ContentType"]),
        ({"table": PARQUET, "split": Split.LINE}, ["SplitType", "tables"]),
        ({"table": PARQUET, "assemble": Assemble.LINE}, ["AssembleWith", "tables"]),
        ({"table": PARQUET, "filters": Filters(join=True)}, ["DataProcessing", "tables"]),
        ({"table": PARQUET, "content_type": "text/csv"}, ["ContentType", "tables"]),
        ({"table": PARQUET, "accept": "text/csv"}, ["Accept", "tables"]),
        ({"table": PARQUET, "gzip": True}, ["CompressionType", "parquet"]),
        ({"table": Table(form=TableForm.CSV, output_form=TableForm.IMAGES)}, ["images"]),
        ({"table": Table(form=TableForm.CSV, rows=0)}, ["rows"]),
    ],
    ids=str,
)
def test_refused_naming_the_options(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(HostlerError) as caught:
        check_plan(plan(**options))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert [word for word in words if word not in caught.value.message] == []


def test_no_processing_where_there_is_nothing_to_do() -> None:
    assert processing(plan()) is None
    assert processing(plan(**CSV, filters=Filters(output="$[0]"))) is not None
