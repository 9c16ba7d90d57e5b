"""ARNs."""

from __future__ import annotations

import pytest

from hostler.protocols.sagemaker import Arns, ResourceName, parse_arn

ARNS = Arns("eu-west-1", "123456789012")


def test_names_are_lower_case_in_them() -> None:
    assert ARNS.model("My-Model") == "arn:aws:sagemaker:eu-west-1:123456789012:model/my-model"
    assert ARNS.endpoint("E") == "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/e"
    config = ARNS.endpoint_config("C")
    assert config == "arn:aws:sagemaker:eu-west-1:123456789012:endpoint-config/c"


def test_there_and_back() -> None:
    assert parse_arn(ARNS.endpoint_config("C")) == ResourceName(
        "aws", "sagemaker", "eu-west-1", "123456789012", "endpoint-config", "c"
    )
    target = ARNS.scalable_target("endpoint/e/variant/v", "d")
    parsed = parse_arn(target)
    assert parsed is not None
    assert (parsed.service, parsed.kind) == ("application-autoscaling", "scalable-target")


@pytest.mark.parametrize(
    "text", ["", "arn", "arn:aws:sagemaker:eu-west-1:123456789012:model", "x:" + ARNS.model("m"),
             "arn:aws:sagemaker:eu-west-1:12345:model/m", ARNS.model("m") + "\n"]
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert parse_arn(text) is None


def test_ids_are_the_same_for_the_same_and_only_then() -> None:
    one = ARNS.scaling_policy("endpoint/e/variant/v", "p")
    assert one == ARNS.scaling_policy("endpoint/e/variant/v", "p")
    assert one != ARNS.scaling_policy("endpoint/e/variant/v2", "p")
    assert one != ARNS.scaling_policy("endpoint/e/variant/v", "q")
    assert one.endswith(":resource/sagemaker/endpoint/e/variant/v:policyName/p")
    assert ARNS.scalable_target("a", "d") != ARNS.scalable_target("b", "d")
