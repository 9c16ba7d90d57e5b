"""POST /: which requests reach the control plane, and what they may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.gateway import Answered, FakeClock, ask
from fakes.keys import ALICE, BOB, document
from fakes.variants import Case

from hostler.control import Config as ControlConfig
from hostler.core import Code, HostlerError
from hostler.gateway import Access, Config
from hostler.gateway.access import parse_keys

KEYED: dict[str, Any] = {"keys_file": "keys.yaml"}
ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/m"


async def post(case: Case, target: str = "SageMaker.X", body: Any = b"{}", **more: str) -> Answered:
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in more.items()}
    if target:
        headers[b"x-amz-target"] = target.encode()
    answered = await ask(case.application, "POST", "/", body, headers)
    assert case.application.v2.bodies.held_bytes == 0
    return answered


def refusal(answered: Answered) -> tuple[int, str, str]:
    document = json.loads(answered.body)
    assert answered.headers[b"content-type"] == b"application/x-amz-json-1.1"
    return answered.status, document["__type"], document["message"]


async def test_a_call() -> None:
    case = Case()
    answered = await post(case, body=[b'{"a"', b": 1}"])
    assert (answered.status, answered.body) == (200, b"{}")
    assert answered.headers[b"content-type"] == b"application/x-amz-json-1.1"
    assert case.control.calls == [("SageMaker.X", b'{"a": 1}')]


async def test_what_names_no_operation_is_told_what_is_meant() -> None:
    case = Case()
    status, kind, message = refusal(await post(case, target=""))
    assert (status, kind) == (400, "UnknownOperationException")
    assert "X-Amz-Target" in message
    assert case.control.calls == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_there_is_nothing_else_at_the_root(method: str) -> None:
    case = Case()
    answered = await ask(case.application, method, "/", b"", {b"x-amz-target": b"SageMaker.X"})
    assert (answered.status, case.control.calls) == (404, [])


async def test_errors_and_bugs() -> None:
    case = Case()
    case.control.error = HostlerError(Code.NOT_FOUND, "Could not find it.")
    assert refusal(await post(case)) == (400, "ValidationException", "Could not find it.")
    case.control.error = ZeroDivisionError("ours")
    status, kind, message = refusal(await post(case))
    assert (status, kind) == (500, "InternalFailure")
    assert "ours" not in message


async def test_bodies_have_a_limit() -> None:
    case = Case()
    limit = ControlConfig().body_bytes_max
    assert (await post(case, body=bytes(limit))).status == 200
    for body in (bytes(limit + 1), [bytes(limit), b"x"]):
        status, kind, message = refusal(await post(case, body=body))
        assert (status, kind) == (413, "RequestEntityTooLargeException")
        assert "control.body_bytes_max" in message
    assert len(case.control.calls) == 1


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("", True),
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("sagemaker.localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example/localhost", False),
    ],
)
async def test_a_page_in_a_browser_of_this_machine_cannot_ask(host: str, served: bool) -> None:
    """Its own name may come to mean 127.0.0.1, so that the browser takes us for its server."""
    case = Case()
    answered = await post(case, **({"host": host} if host else {}))
    assert (answered.status == 200, bool(case.control.calls)) == (served, served)
    if not served:
        _, kind, message = refusal(answered)
        assert kind == "AccessDeniedException"
        assert "gateway.keys_file" in message
    for settings in ({"host": "0.0.0.0", "allow_unauthenticated_remote": True}, KEYED):
        case = Case(**settings)
        if settings is KEYED:
            access = Access(Config(**settings), lambda content, name: None, FakeClock())
            access.adopt(parse_keys(document()))
            case.gateway.admit(access)
        answered = await post(case, host="public.example", authorization=f"Bearer {BOB}")
        assert answered.status == 200


async def test_anybody_may_where_nobody_is_asked() -> None:
    case = Case()
    case.control.asks = [("sagemaker:DeleteModel", ARN)]
    assert (await post(case)).status == 200


class Notes(Access):
    """Keeps its audit lines."""

    def __init__(self) -> None:
        super().__init__(Config(keys_file="k"), lambda content, name: None, FakeClock())
        self.adopt(parse_keys(document()))
        self.noted: list[tuple[str, str, str]] = []

    @property
    def audits(self) -> bool:
        return True

    def note(self, outcome: str, where: Any, principal: Any, reason: str = "") -> None:
        self.noted.append((outcome, where["action"], where["resource"]))


@pytest.mark.parametrize(
    ("target", "token", "outcome"),
    [
        ("SageMaker.DeleteModel", BOB, "done"),
        ("SageMaker.DescribeModel", BOB, None),
        ("SageMaker.ListModels", BOB, None),
        ("SageMaker.DeleteModel", ALICE, "refused"),
        ("SageMaker.DescribeModel", ALICE, "refused"),
    ],
)
async def test_who_may(target: str, token: str, outcome: str | None) -> None:
    case, access = Case(), Notes()
    case.gateway.admit(access)
    action = target.replace("SageMaker.", "sagemaker:")
    case.control.asks = [(action, ARN)]
    answered = await post(case, target, authorization=f"Bearer {token}")
    if outcome == "refused":
        assert refusal(answered)[:2] == (400, "AccessDeniedException")
    else:
        assert answered.status == 200
    assert access.noted == ([] if outcome is None else [(outcome, action, ARN)])


async def test_a_change_that_failed_is_noted_as_such() -> None:
    case, access = Case(), Notes()
    case.gateway.admit(access)
    case.control.asks = [("sagemaker:CreateModel", ARN)]
    case.control.error = HostlerError(Code.ALREADY_EXISTS, "it is there")
    answered = await post(case, "SageMaker.CreateModel", authorization=f"Bearer {BOB}")
    assert answered.status == 400
    assert access.noted == [("failed", "sagemaker:CreateModel", ARN)]
