from __future__ import annotations

from hostler.jobs.transform.naming import errors_key, is_output
from hostler.jobs.transform.plan import Table, TableForm
from hostler.jobs.transform.table import output_name, part_name

CSV = Table(form=TableForm.PARQUET, output_form=TableForm.CSV)
PARQUET = Table(form=TableForm.IMAGES)


def test_an_output_has_its_inputs_whole_name_and_its_forms_suffix() -> None:
    assert output_name(CSV, "a/b.parquet") == "a/b.parquet.out.csv"
    assert output_name(PARQUET, "a/b.parquet") == "a/b.parquet.out.parquet"


def test_parts_have_their_place() -> None:
    assert part_name(PARQUET, 0) == "part-00000.out.parquet"
    assert part_name(CSV, 123456) == "part-123456.out.csv"


def test_outputs_are_known_as_such() -> None:
    for key in (output_name(CSV, "a.csv"), part_name(PARQUET, 7)):
        assert is_output(key)
    assert errors_key(output_name(CSV, "a.csv")) == "a.csv.errors.jsonl"
