"""A server that ends in the middle of a transform job, and the next one that finishes it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from fakes.aws import Aws
from fakes.control_sites import kill
from fakes.invokers import handler_archive
from fakes.server import ServerProcess, wait_for

NAMES = ("a", "b", "c")
HANDLER = """
with open(os.environ["ASKED"], "ab") as file:
    file.write(body)
while body == b"held" and os.path.exists(os.environ["GATE"]):
    time.sleep(0.02)
return body.upper(), "application/octet-stream"
"""


def create(aws: Aws, folder: Path) -> None:
    """Three objects that are answered at once, and one that is held while there is a gate."""
    (folder / "gate").touch()
    (folder / "in").mkdir()
    for name in (*NAMES, "held"):
        (folder / "in" / name).write_text(name)
    environment = {"GATE": str(folder / "gate"), "ASKED": str(folder / "asked")}
    aws.create_model(
        "m", handler_archive(folder / "model.tar.gz", HANDLER), Environment=environment
    )
    source = {"S3DataType": "S3Prefix", "S3Uri": f"file://{folder}/in/"}
    aws.sagemaker.create_transform_job(
        TransformJobName="job",
        ModelName="m",
        TransformInput={
            "DataSource": {"S3DataSource": source},
            "ContentType": "application/octet-stream",
        },
        TransformOutput={"S3OutputPath": f"file://{folder}/out/"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )


def described(aws: Aws) -> dict[str, Any]:
    return dict(aws.sagemaker.describe_transform_job(TransformJobName="job"))


def outputs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "out").glob("*.out")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_job_is_finished_by_the_next_server(tmp_path: Path, number: signal.Signals) -> None:
    flags = ("--state-dir", str(tmp_path / "state"), "--set", "serving.drain_timeout_s=1")
    done = {f"{name}.out": name.upper() for name in NAMES}
    with ServerProcess([], *flags, cwd=tmp_path) as server:
        aws = Aws(f"http://{server.url}")
        create(aws, tmp_path)
        asked = tmp_path / "asked"
        wait_for(lambda: outputs(tmp_path) == done, 30.0, "three outputs")
        wait_for(lambda: b"held" in asked.read_bytes(), 30.0, "the one that is held")
        before = described(aws)
        if number is signal.SIGKILL:
            kill(server)
        else:
            server.stop()
    assert outputs(tmp_path) == done
    asked.unlink()
    (tmp_path / "gate").unlink()
    with ServerProcess([], *flags, cwd=tmp_path) as server:
        aws = Aws(f"http://{server.url}")
        aws.sagemaker.get_waiter("transform_job_completed_or_stopped").wait(
            TransformJobName="job", WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )
        found = described(aws)
        assert found["TransformJobStatus"] == "Completed"
        for member in ("CreationTime", "TransformStartTime"):
            assert found[member] == before[member]
        assert server.wait_event("transform.completed")["objects"] == 4
        server.stop()
    assert outputs(tmp_path) == {**done, "held.out": "HELD"}
    assert asked.read_bytes() == b"held", "what was finished is not asked again"
