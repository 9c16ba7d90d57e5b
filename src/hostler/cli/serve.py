"""`hostler serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from hostler import app
from hostler.cli.options import Flag, existing, with_settings
from hostler.config import Resolved, Settings

__all__ = ["command"]

FLAGS: Final = (
    Flag("--host", "gateway.host"),
    Flag("--port", "gateway.port"),
    Flag("--grpc-port", "gateway.grpc_port"),
    Flag("--grpc/--no-grpc", "gateway.grpc"),
    Flag("--allow-unauthenticated-remote/--loopback-only", "gateway.allow_unauthenticated_remote"),
    Flag("--keys", "gateway.keys_file"),
    Flag("--state-dir", "control.state_dir"),
    Flag("--container", "gateway.container"),
    Flag("--tls-certificate", "gateway.tls_certificate"),
    Flag("--tls-key", "gateway.tls_key"),
    Flag("--tls-client-ca", "gateway.tls_client_ca"),
    Flag("--model-control", "serving.control_mode"),
    Flag("--load-model", "serving.startup_models"),
    Flag("--memory-budget", "serving.memory_budget_bytes"),
    Flag("--log-format", "telemetry.log_format"),
    Flag("--log-level", "telemetry.log_level"),
    Flag("--tracing/--no-tracing", "telemetry.tracing"),
)


@with_settings(*FLAGS)
def command(
    resolved: Resolved[Settings],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Model repositories (`<model>/<version>/model.onnx`), or single .onnx, .pt or "
            "model.py files. Without any, models come through the SageMaker API alone.",
        ),
    ] = None,
) -> int:
    """Serve models over the Open Inference Protocol and the AWS SDK's SageMaker calls.

    [bold]hostler serve ./models[/bold]

    [bold]hostler serve ./models ./more --port 9000 --memory-budget 4GiB[/bold]

    [bold]hostler serve --state-dir ./state[/bold]   then boto3.client("sagemaker",
    endpoint_url="http://127.0.0.1:8000")

    SIGTERM or Ctrl-C finishes what is in flight and exits; a second one stops at once.
    """
    return app.serve(resolved.settings, existing(paths or []), resolved.sources)
