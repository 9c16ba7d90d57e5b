"""Put models behind endpoints of a server, as an AWS client does."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from bench.servers import Server, ServerError

__all__ = ["REGION", "deploy", "pack"]

REGION: Final = "us-east-1"
IN_SERVICE_S: Final = 60.0


def pack(path: Path, content: bytes) -> Path:
    """A graph as a model.tar.gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo("model.onnx")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


def deploy(
    server: Server, name: str, url: str, key: tuple[str, str] = ("bench", "bench"), **container: Any
) -> None:
    """Put a model behind an endpoint, and wait until it is in service.

    `container`: more members of its definition. Raises: ServerError if it fails to be.
    """
    client = boto3.client(
        "sagemaker",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name=REGION,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        config=Config(retries={"total_max_attempts": 1}),
    )
    client.create_model(
        ModelName=name,
        PrimaryContainer={"ModelDataUrl": url, **container},
        ExecutionRoleArn="arn:aws:iam::000000000000:role/bench",
    )
    variant = {
        "VariantName": "all",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=name, EndpointConfigName=name)
    deadline = time.monotonic() + IN_SERVICE_S
    while (found := client.describe_endpoint(EndpointName=name))["EndpointStatus"] != "InService":
        if found["EndpointStatus"] == "Failed" or time.monotonic() > deadline:
            raise ServerError(f"the endpoint is {found}")
        time.sleep(0.05)
