"""The AWS SDK pointed at a server of the test, and model archives to serve.

Every answer of a client made here is checked against botocore's description of the operation:
members that it does not know, that are missing, or that have another type fail the test.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.model import Shape
from fakes.onnx_models import affine

__all__ = [
    "ACCOUNT",
    "Aws",
    "archive",
    "arn",
    "differences",
    "scale_archive",
    "variant",
    "wait_deleted",
]

REGION = "us-east-1"
ACCOUNT = "000000000000"
WAIT = {"Delay": 0.2, "MaxAttempts": 300}


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"


class Aws:
    """boto3 clients of one server, which check what they get.

    `key`: an access key and its secret; any will do where the server asks for none. No retries,
    unless told, so that a test sees each answer.
    """

    def __init__(
        self, url: str, key: tuple[str, str] = ("AKIATEST", "secret"), attempts: int = 1
    ) -> None:
        self.url = url
        self._key = key
        self._attempts = attempts
        self.sagemaker = self._client("sagemaker")
        self.runtime = self._client("sagemaker-runtime")
        self.autoscaling = self._client("application-autoscaling")

    def _client(self, service: str) -> Any:
        client = boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self._key[0],
            aws_secret_access_key=self._key[1],
            config=Config(
                retries={"total_max_attempts": self._attempts, "mode": "standard"},
                connect_timeout=5,
                read_timeout=90,
            ),
        )

        def check(http_response: Any, parsed: dict[str, Any], model: Any, **_: object) -> None:
            if http_response.status_code >= 300 or model.output_shape is None:
                return
            if model.has_event_stream_output or service == "sagemaker-runtime":
                wrong = _header_differences(model, parsed)
            else:
                body = json.loads(http_response.content or b"{}")
                wrong = list(differences(model.output_shape, body))
            assert not wrong, f"{model.name}: {wrong}"

        client.meta.events.register("after-call", check)
        return client

    # -- the usual flow --------------------------------------------------------------------

    def create_model(self, name: str, url: Path | str, **container: Any) -> str:
        place = f"file://{url}" if isinstance(url, Path) else url
        answer = self.sagemaker.create_model(
            ModelName=name,
            PrimaryContainer={"ModelDataUrl": place, **container},
            ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/hostler",
        )
        return str(answer["ModelArn"])

    def create_config(self, name: str, *variants: dict[str, Any], **more: Any) -> str:
        answer = self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=list(variants), **more
        )
        return str(answer["EndpointConfigArn"])

    def create_endpoint(self, name: str, config: str, **more: Any) -> str:
        answer = self.sagemaker.create_endpoint(
            EndpointName=name, EndpointConfigName=config, **more
        )
        return str(answer["EndpointArn"])

    def in_service(self, name: str) -> dict[str, Any]:
        self.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=WAIT)
        return dict(self.sagemaker.describe_endpoint(EndpointName=name))

    def deploy(self, name: str, url: Path | str, **container: Any) -> dict[str, Any]:
        """A model, a configuration and an endpoint, all of this name, in service."""
        self.create_model(name, url, **container)
        self.create_config(name, variant(name))
        self.create_endpoint(name, name)
        return self.in_service(name)

    def ask(self, endpoint: str, rows: Any, **more: Any) -> Any:
        """InvokeEndpoint with JSON, read back."""
        more.setdefault("ContentType", "application/json")
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=json.dumps(rows).encode(), **more
        )
        return json.loads(answer["Body"].read())


def variant(model: str, name: str = "AllTraffic", **more: Any) -> dict[str, Any]:
    described = {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        **more,
    }
    return {key: value for key, value in described.items() if value is not None}


def wait_deleted(aws: Aws, name: str) -> None:
    aws.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=WAIT)


# -- archives ----------------------------------------------------------------------------------


def archive(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """A model.tar.gz of these files; written aside first, so that it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with tarfile.open(part, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return part.replace(path)


def scale_archive(path: Path, factor: float, width: int = 4) -> Path:
    """A bare ONNX graph: x [batch, width] FP32 -> y = factor * x."""
    graph = affine(path.parent / f"{path.name}.onnx", factor, width=width)
    content = graph.read_bytes()
    graph.unlink()
    return archive(path, {"model.onnx": content})


# -- shapes ------------------------------------------------------------------------------------

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "blob": (str,),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}


def differences(shape: Shape, value: Any, path: str = "$") -> Iterator[str]:
    """Where a JSON value is not what a shape says: members, types, enums, bounds, patterns."""
    kind = shape.type_name
    right = isinstance(value, _JSON_TYPES[kind])
    if not right or (isinstance(value, bool) and kind != "boolean"):
        yield f"{path} is {value!r}, not {kind}"
    elif kind == "structure":
        yield from _structure_differences(shape, value, path)
    elif kind == "list":
        for index, member in enumerate(value):
            yield from differences(shape.member, member, f"{path}[{index}]")
    elif kind == "map":
        for key, member in value.items():
            yield from differences(shape.value, member, f"{path}[{key}]")
    elif kind == "string":
        yield from _text_differences(shape, value, path)


def _structure_differences(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name} is missing"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{path}.{name} is not a member of {shape.name}"
        else:
            yield from differences(shape.members[name], member, f"{path}.{name}")


def _text_differences(shape: Shape, value: str, path: str) -> Iterator[str]:
    if shape.enum and value not in shape.enum:
        yield f"{path} is {value!r}, not one of {shape.enum}"
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"{path} is longer than {shape.metadata['max']}"
    pattern = shape.metadata.get("pattern")
    # Urls may be file:// here; \p{...} and surrogates are no syntax of Python's.
    foreign = pattern and ("\\p{" in pattern or "\\uD800" in pattern)
    checked = pattern and not foreign and not shape.name.endswith(("Url", "Uri"))
    if checked and re.match(pattern, value) is None:
        yield f"{path} is {value!r}, which {pattern} does not match"


def _header_differences(model: Any, parsed: dict[str, Any]) -> list[str]:
    wrong = [
        name
        for name in model.output_shape.members
        if name in parsed and name not in ("Body",) and not isinstance(parsed[name], str)
    ]
    unknown = set(parsed) - set(model.output_shape.members) - {"ResponseMetadata"}
    return [*wrong, *unknown]


def seconds(moment: datetime) -> float:
    return moment.timestamp()
