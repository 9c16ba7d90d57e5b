"""What goes with what in a plan. Pure.

Source: CreateTransformJob; what is ours says so.
"""

from __future__ import annotations

from hostler.core import Code, HostlerError
from hostler.jobs.transform import filters
from hostler.jobs.transform.plan import (
    PAYLOAD_BYTES_MAX,
    Assemble,
    Filters,
    Input,
    Plan,
    Split,
    TableForm,
)

__all__ = ["check_plan", "processing"]

_MIB = 1 << 20


def check_plan(plan: Plan) -> None:
    """Raises: INVALID_ARGUMENT naming the options that do not go together.

    BatchStrategy MultiRecord with SplitType None is fine: it has no effect.
    """
    _check_numbers(plan)
    if plan.table is None:
        processing(plan)
    else:
        _check_table(plan)


def processing(plan: Plan) -> filters.DataProcessing | None:
    """What a plan does with each record beside asking, None for nothing. Raises: as check_plan."""
    wanted = plan.filters
    if not wanted.active:
        return None
    form = filters.check(
        plan.input.content_type, plan.output.accept, plan.split.value, plan.output.assemble.value
    )
    return filters.DataProcessing(form, wanted.input, wanted.output, wanted.join)


def _check_numbers(plan: Plan) -> None:
    payload, requests = plan.payload_bytes_max, plan.concurrency
    if not 0 <= payload <= PAYLOAD_BYTES_MAX:
        raise _invalid(
            f"MaxPayloadInMB is {payload / _MIB:g}, but must be 0 (no limit) to "
            f"{PAYLOAD_BYTES_MAX // _MIB}"
        )
    if requests < 0:
        raise _invalid(f"MaxConcurrentTransforms is {requests}, but must be 0 or more")
    if payload * requests > PAYLOAD_BYTES_MAX:
        raise _invalid(
            f"MaxConcurrentTransforms ({requests}) times MaxPayloadInMB ({payload / _MIB:g}) is "
            f"more than {PAYLOAD_BYTES_MAX // _MIB}; make one of them smaller"
        )
    if plan.timeout_s <= 0:
        raise _invalid(
            f"InvocationsTimeoutInSeconds is {plan.timeout_s:g}, but must be more than 0"
        )
    if plan.retries_max < 0:
        raise _invalid(f"InvocationsMaxRetries is {plan.retries_max}, but must be 0 or more")
    limit = plan.errors.records_max
    if limit is not None and not plan.errors.skip:
        raise _invalid(
            f"at most {limit} records may be set aside, but bad records are not skipped: the first "
            "fails its object; skip them, or leave out the limit"
        )
    if limit is not None and limit < 0:
        raise _invalid(f"at most {limit} records may be set aside, but that must be 0 or more")


def _check_table(plan: Plan) -> None:
    """Tables have rows and columns, and none of what is for records. Ours."""
    table = plan.table
    assert table is not None
    others = {
        "SplitType": plan.split is not Split.NONE,
        "AssembleWith": plan.output.assemble is not Assemble.NONE,
        "DataProcessing": plan.filters != Filters(),
        "ContentType": plan.input.content_type != Input(url="").content_type,
        "Accept": plan.output.accept != "",
    }
    for name, is_set in others.items():
        if is_set:
            raise _invalid(
                f"{name} is for records, and the objects are tables ({table.form.value}); leave it "
                "out, or leave out the table"
            )
    if table.output_form is TableForm.IMAGES:
        raise _invalid("images are no form of outputs; take parquet, jsonl or csv")
    if plan.input.gzip and table.form in (TableForm.PARQUET, TableForm.IMAGES):
        raise _invalid(
            f"CompressionType Gzip does not go with tables of {table.form.value}, which are "
            "compressed themselves; leave it out"
        )
    if table.rows < 1 or table.part_objects < 1:
        raise _invalid("a table's rows and part_objects must be 1 or more")


def _invalid(message: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, message)
