"""Settings of the repository."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How packages are read, and how much of them."""

    auto_complete: Annotated[
        bool,
        msgspec.Meta(
            description="Complete what a package leaves out (inputs, outputs, batching) from the "
            "model itself; off, every package must bring a whole config.pbtxt.",
            extra={"unit": "flag"},
        ),
    ] = True
    default_rows_max: Annotated[
        int,
        msgspec.Meta(
            description="Most rows joined into one run of a model whose package does not state "
            "max_batch_size and whose tensors all have a variable first dimension.",
            ge=1,
            le=65536,
            extra={"unit": "count"},
        ),
    ] = 64
    follow_links: Annotated[
        bool,
        msgspec.Meta(
            description="Follow symbolic links that leave the repository; off, a package with such "
            "a link is refused.",
            extra={"unit": "flag"},
        ),
    ] = False
    config_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Largest config.pbtxt that is read.", ge=1024, extra={"unit": "bytes"}
        ),
    ] = 1024 * 1024
    label_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Largest label file that is read.", ge=1024, extra={"unit": "bytes"}
        ),
    ] = 16 * 1024 * 1024
    versions_max: Annotated[
        int,
        msgspec.Meta(
            description="Most version folders of one model.", ge=1, extra={"unit": "count"}
        ),
    ] = 1024
    files_max: Annotated[
        int,
        msgspec.Meta(
            description="Most files and folders in one package; each is looked at in every scan.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 10_000
    models_max: Annotated[
        int,
        msgspec.Meta(
            description="Most entries in one repository folder.", ge=1, extra={"unit": "count"}
        ),
    ] = 100_000
    environments: Annotated[
        bool,
        msgspec.Meta(
            description="Give models that bring a requirements.txt or EXECUTION_ENV_PATH a Python "
            "environment of their own; off, they run on the server's own Python, and "
            "EXECUTION_ENV_PATH is refused.",
            extra={"unit": "flag"},
        ),
    ] = True
    environments_dir: Annotated[
        str,
        msgspec.Meta(
            description="Folder in which these environments are built and kept; servers may share "
            "it.",
            extra={"unit": "path"},
        ),
    ] = "~/.cache/hostler/environments"
    environment_python: Annotated[
        str,
        msgspec.Meta(
            description="Python that environments of a requirements.txt are made with, 3.8 or "
            "later with venv; empty is the server's own.",
            extra={"unit": "path"},
        ),
    ] = ""
    environment_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest time to build an environment; it does not count as time to load.",
            gt=0,
            extra={"unit": "s"},
        ),
    ] = 1800.0
    environment_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes that a packed environment may unpack to.",
            ge=1,
            extra={"unit": "bytes"},
        ),
    ] = 32 * 1024 * 1024 * 1024
    environment_files_max: Annotated[
        int,
        msgspec.Meta(
            description="Most files that a packed environment may unpack to.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 500_000
    pip_arguments: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="Arguments that every `pip install` of a requirements.txt gets, such as "
            "--index-url=URL; pip's own configuration files and variables are obeyed, too.",
            extra={"unit": "text"},
        ),
    ] = ()
    override_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes of model files that one load request may bring.",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = 4 * 1024 * 1024 * 1024
    archive_cache_dir: Annotated[
        str,
        msgspec.Meta(
            description="Folder in which models of endpoints are kept once they are downloaded and "
            "unpacked; servers may share it.",
            extra={"unit": "path"},
        ),
    ] = "~/.cache/hostler/models"
    archive_cache_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes in this folder, with what is being downloaded and unpacked; "
            "what has not been used for longest goes first, and nothing that is in use.",
            ge=16 * 1024 * 1024,
            extra={"unit": "bytes"},
        ),
    ] = 64 * 1024 * 1024 * 1024
    archive_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Largest archive that is downloaded.", ge=1, extra={"unit": "bytes"}
        ),
    ] = 16 * 1024 * 1024 * 1024
    archive_unpacked_bytes_max: Annotated[
        int,
        msgspec.Meta(
            description="Most bytes that one archive may unpack to, or that may lie under one "
            "prefix.",
            ge=1,
            extra={"unit": "bytes"},
        ),
    ] = 32 * 1024 * 1024 * 1024
    archive_files_max: Annotated[
        int,
        msgspec.Meta(
            description="Most files that one archive may unpack to, or that may lie under one "
            "prefix.",
            ge=1,
            extra={"unit": "count"},
        ),
    ] = 100_000
    archive_ratio_max: Annotated[
        int,
        msgspec.Meta(
            description="Growth past which an archive of more than 64 MiB of content is refused as "
            "a bomb; models grow three- to tenfold.",
            ge=1,
            extra={"unit": "ratio"},
        ),
    ] = 200
    fetches_max: Annotated[
        int,
        msgspec.Meta(
            description="Most models that are downloaded and unpacked at the same time.",
            ge=1,
            le=256,
            extra={"unit": "count"},
        ),
    ] = 4
    fetch_attempts_max: Annotated[
        int,
        msgspec.Meta(
            description="Attempts in a row to go on with a download that bring nothing, after "
            "which it is given up; what came so far is kept.",
            ge=1,
            le=1000,
            extra={"unit": "count"},
        ),
    ] = 8
    fetch_pause_s: Annotated[
        float,
        msgspec.Meta(
            description="Pause after the first of these attempts; each one after is twice as long, "
            "up to half a minute.",
            gt=0,
            le=60,
            extra={"unit": "s"},
        ),
    ] = 0.5
    images: Annotated[
        tuple[
            Annotated[
                str,
                msgspec.Meta(
                    pattern="^[^=]+=(triton|tensorflow|pytorch|sklearn|xgboost|djl|mlflow|hostler|"
                    "detect)$"
                ),
            ],
            ...,
        ],
        msgspec.Meta(
            description="How archives of container images are read, PATTERN=READER each, looked at "
            "before the rows that are built in. Patterns are globs for the image's reference, with "
            "or without registry, tag and digest; readers are triton, tensorflow, pytorch, "
            "sklearn, xgboost, djl, mlflow, hostler, and detect, which looks into the archive.",
            extra={"unit": "text"},
        ),
    ] = ()
