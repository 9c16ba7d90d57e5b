"""CreateTransformJob -> what the engine is to do, and what the model's container is told. Pure.

What SageMaker has no member for is asked for with variables of the job's Environment, which the
model does not see:

    HOSTLER_ON_ERROR        fail, or skip: bad records are set aside, and their object goes on
    HOSTLER_ERRORS_MAX      with skip: more bad records than these fail the job
    HOSTLER_OUTPUT_NAMING   relative, or folder: the last part of the input URL comes before keys

Sources: SageMaker API Reference, CreateTransformJob; SageMaker developer guide, "Use Your Own
Inference Code with Batch Transform" for the variables of containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostler.control.operations.desk import refused
from hostler.control.records import Document
from hostler.jobs import (
    Assemble,
    Errors,
    Filters,
    Input,
    Naming,
    Output,
    Plan,
    Source,
    Split,
    Strategy,
)

__all__ = ["OURS", "plan_of", "shown_request", "variables_of"]

OURS: Final = "HOSTLER_"
"""Variables that begin so are for the job, not for its model."""

_ON_ERROR: Final = "HOSTLER_ON_ERROR"
_ERRORS_MAX: Final = "HOSTLER_ERRORS_MAX"
_NAMING: Final = "HOSTLER_OUTPUT_NAMING"
_VARIABLES: Final = (_ON_ERROR, _ERRORS_MAX, _NAMING)

_MB: Final = 1 << 20
_PAYLOAD_MB: Final = 6
_TIMEOUT_S: Final = 600
_RETRIES: Final = 3
_DIGITS_MAX: Final = 15
_NONE: Final[Mapping[str, Any]] = {}

_UNSERVED_SOURCES: Final = {
    "AugmentedManifestFile": "it is not compatible with transform jobs",
    "Converse": "conversations are not served",
}
_STRATEGY_VARIABLES: Final = {
    Strategy.MULTI: "MULTI_RECORD",
    Strategy.SINGLE: "SINGLE_RECORD",
}


def plan_of(request: Document) -> Plan:
    """The job; `jobs.check_plan` holds its parts together. Raises: INVALID_ARGUMENT."""
    _check_served(request)
    client = request.get("ModelClientConfig") or _NONE
    payload_mb, concurrency = _payload(request)
    environment = _ours(request)
    return Plan(
        name=request["TransformJobName"],
        input=_input(request["TransformInput"]),
        output=_output(request["TransformOutput"], environment),
        split=Split(request["TransformInput"].get("SplitType", "None")),
        strategy=_strategy(request),
        payload_bytes_max=payload_mb * _MB,
        concurrency=concurrency,
        timeout_s=float(client.get("InvocationsTimeoutInSeconds", _TIMEOUT_S)),
        retries_max=client.get("InvocationsMaxRetries", _RETRIES),
        filters=_filters(request.get("DataProcessing") or _NONE),
        errors=_errors(environment),
    )


def variables_of(request: Document) -> dict[str, str]:
    """What the model's container is told beside what CreateModel gave it.

    SAGEMAKER_MAX_CONCURRENT_TRANSFORMS is told only where the request states it: else there is no
    such number.
    """
    payload_mb, concurrency = _payload(request)
    theirs = request.get("Environment") or _NONE
    told = {name: str(value) for name, value in theirs.items() if not name.startswith(OURS)}
    told["SAGEMAKER_BATCH"] = "true"
    told["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(payload_mb)
    told["SAGEMAKER_BATCH_STRATEGY"] = _STRATEGY_VARIABLES[_strategy(request)]
    if concurrency:
        told["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(concurrency)
    return told


def shown_request(request: Document) -> Document:
    """The request as DescribeTransformJob shows it: without tags, with the service's defaults."""
    shown = {key: value for key, value in request.items() if key != "Tags"}
    given = shown["TransformInput"]
    shown["TransformInput"] = {"CompressionType": "None", "SplitType": "None", **given}
    shown["TransformOutput"] = {"AssembleWith": "None", **shown["TransformOutput"]}
    processing = shown.get("DataProcessing") or _NONE
    defaults = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    shown["DataProcessing"] = {**defaults, **processing}
    return shown


def _check_served(request: Document) -> None:
    if request.get("DataCaptureConfig"):
        raise refused(
            "DataCaptureConfig is not served for transform jobs: inputs are where they were, and "
            "outputs in S3OutputPath; DataProcessing.JoinSource writes them side by side."
        )
    url = request["TransformOutput"]["S3OutputPath"]
    if url.startswith(("https:", "http:")):
        raise refused(
            f"TransformOutput.S3OutputPath '{url}' cannot be written to: it must begin with "
            "s3://, gs://, az:// or file:///."
        )


def _input(given: Document) -> Input:
    source = given["DataSource"]["S3DataSource"]
    kind, url = source["S3DataType"], source["S3Uri"]
    place = "TransformInput.DataSource.S3DataSource"
    if kind in _UNSERVED_SOURCES:
        raise refused(
            f"{place}.S3DataType {kind}: {_UNSERVED_SOURCES[kind]}; use S3Prefix or ManifestFile."
        )
    if kind == Source.PREFIX and url.startswith(("https:", "http:")):
        raise refused(
            f"{place}.S3Uri '{url}': web servers do not list what they have; name the objects in "
            "a ManifestFile, or use s3://, gs://, az:// or file:///."
        )
    return Input(
        url=url,
        source=Source(kind),
        gzip=given.get("CompressionType") == "Gzip",
        content_type=given.get("ContentType", ""),
    )


def _output(given: Document, environment: Mapping[str, str]) -> Output:
    return Output(
        url=given["S3OutputPath"],
        accept=given.get("Accept", ""),
        assemble=Assemble(given.get("AssembleWith", "None")),
        naming=Naming(_one_of(environment, _NAMING, [naming.value for naming in Naming])),
    )


def _strategy(request: Document) -> Strategy:
    return Strategy(request.get("BatchStrategy", Strategy.MULTI))


def _payload(request: Document) -> tuple[int, int]:
    """MaxPayloadInMB and MaxConcurrentTransforms; 0 is as large, or as many, as it comes."""
    payload_mb = request.get("MaxPayloadInMB", _PAYLOAD_MB)
    concurrency = request.get("MaxConcurrentTransforms", 0)
    return payload_mb, concurrency if payload_mb else 0


def _filters(given: Mapping[str, Any]) -> Filters:
    return Filters(
        input=given.get("InputFilter") or "$",
        output=given.get("OutputFilter") or "$",
        join=given.get("JoinSource") == "Input",
    )


# -- ours --------------------------------------------------------------------------------------


def _ours(request: Document) -> dict[str, str]:
    given = request.get("Environment") or _NONE
    ours = {name: str(value) for name, value in given.items() if name.startswith(OURS)}
    unknown = sorted(ours.keys() - set(_VARIABLES))
    if unknown:
        known = ", ".join(_VARIABLES)
        raise refused(f"Environment: {unknown[0]} is not known; there are {known}.")
    return ours


def _errors(environment: Mapping[str, str]) -> Errors:
    skip = _one_of(environment, _ON_ERROR, ["fail", "skip"]) == "skip"
    most = environment.get(_ERRORS_MAX)
    if most is None:
        return Errors(skip=skip)
    if not skip:
        raise refused(f"Environment: {_ERRORS_MAX} needs {_ON_ERROR} skip.")
    if not (most.isascii() and most.isdigit() and len(most) <= _DIGITS_MAX):
        raise refused(f"Environment: {_ERRORS_MAX} '{most[:80]}' must be a number of records.")
    return Errors(skip=True, records_max=int(most))


def _one_of(environment: Mapping[str, str], name: str, values: list[str]) -> str:
    """What a variable says; the first of these where it is not set."""
    value = environment.get(name, values[0])
    if value not in values:
        raise refused(f"Environment: {name} '{value[:80]}' must be {' or '.join(values)}.")
    return value
