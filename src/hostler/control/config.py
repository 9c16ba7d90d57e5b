"""Settings of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SageMaker control plane: where its state is, what its ARNs say, how much it takes."""

    state_dir: Annotated[
        Path,
        msgspec.Meta(
            description="Folder of what the control plane knows (models, endpoint configs, "
            "endpoints, their tags); made with the first call that needs it.",
            extra={"unit": "path"},
        ),
    ] = Path(".hostler")
    region: Annotated[
        str,
        msgspec.Meta(
            description="Region in the ARNs of resources. Clients may be set to any: a signature "
            "is checked for the region that it names.",
            pattern="^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$",
            max_length=32,
            extra={"unit": "text"},
        ),
    ] = "us-east-1"
    account_id: Annotated[
        str,
        msgspec.Meta(
            description="Account in the ARNs of resources, 12 digits.",
            pattern="^[0-9]{12}$",
            extra={"unit": "text"},
        ),
    ] = "000000000000"
    models_max: Annotated[
        int,
        msgspec.Meta(
            description="Models; one more is refused with ResourceLimitExceeded.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 10_000
    endpoint_configs_max: Annotated[
        int,
        msgspec.Meta(
            description="Endpoint configurations; one more is refused with ResourceLimitExceeded.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 10_000
    endpoints_max: Annotated[
        int,
        msgspec.Meta(
            description="Endpoints; one more is refused with ResourceLimitExceeded.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 1_000
    transform_jobs_max: Annotated[
        int,
        msgspec.Meta(
            description="Transform jobs that are known; for one more those that ended first are "
            "forgotten. Where none has ended it is refused with ResourceLimitExceeded.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 10_000
    instances_max: Annotated[
        int,
        msgspec.Meta(
            description="Instances of one variant or transform job, whoever asks for them: an "
            "endpoint configuration, an update, a scaling policy or a job.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 100
    body_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Bytes of a request to the control plane.",
            ge=4096,
            extra={"unit": "bytes"},
        ),
    ] = 1024 * 1024
    alarms: Annotated[
        dict[str, str],
        msgspec.Meta(
            description="Alarms that AutoRollbackConfiguration may name, as NAME: EXPRESSION, "
            "such as 'error_rate > 5% for 60s'. A name that is not here must be an expression.",
            extra={"unit": "text"},
        ),
    ] = msgspec.field(default_factory=dict)
    download_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="To fetch a model's archive; a variant may say otherwise with "
            "ModelDataDownloadTimeoutInSeconds.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 3600.0
    startup_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="To get a fetched model ready; a variant may say otherwise with "
            "ContainerStartupHealthCheckTimeoutInSeconds.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 600.0
    serverless_idle_s: Annotated[
        float,
        msgspec.Meta(
            description="After which a serverless variant that nobody asks leaves memory, unless "
            "it has ProvisionedConcurrency.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 300.0
    retry_s_max: Annotated[
        float,
        msgspec.Meta(
            description="Longest pause before instances that did not come up are tried again, "
            "where the endpoint needs them.",
            gt=0.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    resume_wait_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time for which /v2/health/ready says no after a start because "
            "endpoints of the earlier run have not come up.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    starts_max: Annotated[
        int,
        msgspec.Meta(
            description="Models that are loaded at the same time for variants that start, of all "
            "endpoints together; others wait for their turn.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 4
    drain_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time that instances which are stopped may take to finish what "
            "they were asked before; `serving.drain_timeout_s` comes on top.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 60.0
    alarm_interval_s: Annotated[
        float,
        msgspec.Meta(
            description="Time between two looks at the alarms of a deployment.",
            ge=0.05,
            extra={"unit": "s"},
        ),
    ] = 1.0
    autoscale_interval_s: Annotated[
        float,
        msgspec.Meta(
            description="Time between two looks at the load of variants that scaling policies "
            "are for.",
            ge=0.05,
            extra={"unit": "s"},
        ),
    ] = 10.0
    autoscale_in_after_s: Annotated[
        float,
        msgspec.Meta(
            description="Time for which a load must have been low before a target tracking policy "
            "takes instances away.",
            ge=0.0,
            extra={"unit": "s"},
        ),
    ] = 900.0
