"""The committed stubs are those of proto/, and agree with what clients are built from."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as client_config
from tritonclient.grpc import service_pb2 as client_service

from hostler.protocols.oip.grpc import grpc_service_pb2, health_pb2
from hostler.protocols.oip.model_config import model_config_pb2

ROOT = Path(__file__).parents[5]
GENERATOR = "1.76.0"


def fields(message: Any, prefix: str = "") -> Iterator[tuple[str, int, int, bool]]:
    """Path, number, type and kind of every field of a message and those inside it."""
    for field in message.fields:
        yield f"{prefix}{field.name}", field.number, field.type, field.has_presence
    for inner in message.nested_types:
        yield from fields(inner, f"{prefix}{inner.name}.")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(grpc_service_pb2, client_service), (model_config_pb2, client_config)],
    ids=["service", "model_config"],
)
def test_fields_are_those_of_tritonclient(ours: Any, theirs: Any) -> None:
    for name, message in theirs.DESCRIPTOR.message_types_by_name.items():
        known = set(fields(ours.DESCRIPTOR.message_types_by_name[name]))
        assert set(fields(message)) <= known, name


def test_health_is_the_public_one() -> None:
    status = health_pb2.HealthCheckResponse.ServingStatus
    assert dict(status.items()) == {
        "UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    }
    assert health_pb2.HealthCheckRequest(service="m").SerializeToString() == b"\x0a\x01m"
    assert health_pb2.HealthCheckResponse(status="SERVING").SerializeToString() == b"\x08\x01"


@pytest.mark.parametrize("module", [grpc_service_pb2, health_pb2, model_config_pb2])
def test_packages_do_not_collide_with_a_client_of_the_same_process(module: Any) -> None:
    assert module.DESCRIPTOR.package == "hostler_oip"
    assert module.DESCRIPTOR.name.startswith("hostler_oip/")


def generator() -> str:
    try:
        return importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        return "none"


@pytest.mark.skipif(generator() != GENERATOR, reason=f"grpcio-tools {GENERATOR} is not installed")
def test_generating_anew_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # a process is what this test is about
    variables = {**os.environ, "PROTOC": sys.executable, "OUT": str(tmp_path)}
    subprocess.run(["sh", "proto/generate.sh"], cwd=ROOT, env=variables, check=True)
    made = [path for path in tmp_path.rglob("*_pb2.py*") if path.is_file()]
    assert len(made) == 6
    for path in made:
        assert path.read_text() == (ROOT / "src" / path.relative_to(tmp_path)).read_text(), path
