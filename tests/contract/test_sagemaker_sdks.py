"""The SageMaker SDK of both generations and the AWS CLI, each in an environment of its own.

Their versions fight with one another's; `make setup` installs them beside ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.aws import ACCOUNT, Aws, arn, scale_archive, variant
from fakes.s3_server import S3Server, s3_server
from fakes.server import ServerProcess, wait_for

CLIENTS = Path(sys.prefix) / "clients"
SCRIPTS = Path(__file__).parents[1] / "clients"
ENDED_S = 110.0
TWICE = [[2.0, 4.0, 6.0, 8.0]]


@pytest.fixture(scope="module")
def model_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file://{scale_archive(tmp_path_factory.mktemp('double') / 'model.tar.gz', 2.0)}"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """A bucket with an object of one line below `in/`."""
    with s3_server(["bucket"]) as running:
        running.put("bucket", "in/a.csv", b"1,2,3,4\n")
        yield running


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, model_data: str, s3: S3Server) -> Iterator[str]:
    state = tmp_path_factory.mktemp("state")
    flags = ["--state-dir", str(state), "--set", f"storage.s3_endpoint_url={s3.url}"]
    for name in ("s3_access_key_id", "s3_secret_access_key"):
        flags += ["--set", f"storage.{name}=testing"]
    with ServerProcess([], *flags, cwd=state) as server:
        Aws(f"http://{server.url}").deploy("shared", model_data)
        yield f"http://{server.url}"


def environment(url: str, home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
    }


def run(client: str, *command: str, url: str, home: Path) -> str:
    """What a command of a client's environment prints; fails with what it said."""
    program = CLIENTS / client / "bin" / command[0]
    assert program.exists(), f"{program} is missing; run `make setup`"
    ended = subprocess.run(
        [str(program), *command[1:]],
        capture_output=True,
        text=True,
        timeout=ENDED_S,
        check=False,
        env=environment(url, home),
        cwd=home,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def last_line(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])


def test_sdk_2(url: str, model_data: str, s3: S3Server, tmp_path: Path) -> None:
    script = str(SCRIPTS / "predictor.py")
    found = last_line(
        run("sagemaker2", "python", script, url, "shared", model_data, url=url, home=tmp_path)
    )
    assert found.pop("version").startswith("2.")
    assert found.pop("transformed") == ["sdk", "s3://bucket/out2/", "MultiRecord"]
    assert s3.get("bucket", "out2/a.csv.out") == b"1,2,3,4,2.0,4.0,6.0,8.0\n"
    assert found == {"json": TWICE, "csv": TWICE, "npy": TWICE, "deployed": TWICE}


def test_sdk_3(url: str, model_data: str, s3: S3Server, tmp_path: Path) -> None:
    script = str(SCRIPTS / "resources.py")
    found = last_line(
        run("sagemaker3", "python", script, "shared", model_data, url=url, home=tmp_path)
    )
    assert found.pop("version").startswith("2.")  # sagemaker-core 2 is the SDK's third generation
    assert found.pop("listed")[0] == "core"
    assert found.pop("transformed") == ["Completed", "Completed"]
    for way in ("resource", "transformer"):
        assert s3.get("bucket", f"out3/{way}/a.csv.out") == b"2.0,4.0,6.0,8.0\n"
    assert found == {
        "status": "InService",
        "invoked": TWICE,
        "content_type": "application/json",
        "created": TWICE,
    }


class Cli:
    """`aws` with JSON in and out."""

    def __init__(self, url: str, home: Path) -> None:
        self._url, self._home = url, home

    def __call__(self, *words: str, **options: Any) -> Any:
        flags = []
        for name, value in options.items():
            text = value if isinstance(value, str) else json.dumps(value)
            flags += [f"--{name.replace('_', '-')}", text]
        said = run("awscli", "aws", *words, *flags, url=self._url, home=self._home)
        return json.loads(said) if said.strip() else None


def test_cli(url: str, model_data: str, tmp_path: Path) -> None:
    aws = Cli(url, tmp_path)
    role = f"arn:aws:iam::{ACCOUNT}:role/hostler"
    made = aws(
        "sagemaker", "create-model", model_name="cli", execution_role_arn=role,
        primary_container={"ModelDataUrl": model_data},
    )  # fmt: skip
    assert made == {"ModelArn": arn("model", "cli")}
    aws(
        "sagemaker", "create-endpoint-config", endpoint_config_name="cli",
        production_variants=[variant("cli")],
    )  # fmt: skip
    aws("sagemaker", "create-endpoint", endpoint_name="cli", endpoint_config_name="cli")

    def in_service() -> bool:
        described = aws("sagemaker", "describe-endpoint", endpoint_name="cli")
        return bool(described["EndpointStatus"] == "InService")

    wait_for(in_service, 60.0, "the endpoint", poll_s=0.1)
    aws("sagemaker", "wait", "endpoint-in-service", endpoint_name="cli")
    (tmp_path / "rows.csv").write_text("1,2,3,4\n")
    said = aws(
        "sagemaker-runtime", "invoke-endpoint", "out.csv", endpoint_name="cli",
        body=f"fileb://{tmp_path}/rows.csv", content_type="text/csv",
    )  # fmt: skip
    assert said["InvokedProductionVariant"] == "AllTraffic"
    assert (tmp_path / "out.csv").read_text().strip() == "2.0,4.0,6.0,8.0"
    weights = [{"VariantName": "AllTraffic", "DesiredWeight": 2.0}]
    aws(
        "sagemaker", "update-endpoint-weights-and-capacities", endpoint_name="cli",
        desired_weights_and_capacities=weights,
    )  # fmt: skip
    wait_for(in_service, 60.0, "the endpoint", poll_s=0.1)
    listed = aws("sagemaker", "list-endpoints", name_contains="cli")
    assert [e["EndpointName"] for e in listed["Endpoints"]] == ["cli"]
    aws("sagemaker", "delete-endpoint", endpoint_name="cli")
    aws("sagemaker", "delete-endpoint-config", endpoint_config_name="cli")
    aws("sagemaker", "delete-model", model_name="cli")
    assert aws("sagemaker", "list-models", name_contains="cli")["Models"] == []
