"""Policies: wildcards, deny wins, nothing is allowed by itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.gateway.access import Principal, Statement, authorize
from hostler.gateway.access.policy import matches

ARN = "arn:aws:sagemaker:eu-central-1:000000000000:endpoint/"


@given(st.text("ab*?", max_size=10), st.text("ab\n", max_size=10))
def test_wildcards_are_those_of_the_shell(pattern: str, text: str) -> None:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert matches(pattern, text) is bool(re.fullmatch(expression, text, re.DOTALL))


def statement(effect: str, actions: str, resources: str) -> Statement:
    return Statement("p", 1, effect == "allow", tuple(actions.split()), tuple(resources.split()))


@pytest.mark.parametrize(
    ("statements", "action", "resource", "allowed"),
    [
        ([], "hostler:Infer", "model/a", False),
        (["allow * *"], "hostler:Infer", "model/a", True),
        (["allow hostler:Infer model/a"], "hostler:Infer", "model/a", True),
        (["allow hostler:Infer model/a"], "hostler:infer", "model/a", True),
        (["allow hostler:Infer model/a"], "hostler:Infer", "model/A", False),
        (["allow hostler:Infer model/a"], "hostler:Infer", "model/ab", False),
        (["allow hostler:Infer model/a"], "hostler:InferX", "model/a", False),
        (["allow hostler:Infer model/a*"], "hostler:Infer", "model/ab", True),
        (["allow hostler:Read* model/?"], "hostler:ReadModel", "model/x", True),
        (["allow hostler:Read* model/?"], "hostler:ReadModel", "model/xy", False),
        (["allow * *", "deny hostler:Manage* *"], "hostler:ManageModel", "model/a", False),
        (["deny hostler:Manage* *", "allow * *"], "hostler:ManageModel", "model/a", False),
        (["allow * *", "deny hostler:Manage* *"], "hostler:Infer", "model/a", True),
        (["allow * *", "deny * model/secret"], "hostler:Infer", "model/secret", False),
        ([f"allow sagemaker:* {ARN}MyModel"], "sagemaker:InvokeEndpoint", ARN + "mymodel", True),
        (["allow * *", "deny * *endpoint/SECRET"], "sagemaker:X", ARN + "secret", False),
        (["allow * model/" + "x" * 500 + "*"], "a:b", "model/" + "x" * 2000, False),
        (["allow * *"], "a:b", "model/" + "x" * 2000, False),
    ],
)
def test_decisions(statements: list[str], action: str, resource: str, allowed: bool) -> None:
    principal = Principal("p", "k", [statement(*text.split(" ")) for text in statements])
    assert principal.decide(action, resource).allowed is allowed
    for _ in range(2):  # the second time from what is remembered
        assert authorize(principal, action, resource) is allowed


def test_reasons_name_the_statement() -> None:
    allow = Statement("open", 1, True, ("*",), ("*",))
    deny = Statement("shut", 2, False, ("a:b",), ("server",))
    principal = Principal("p", "k", [allow, deny])
    assert principal.decide("a:c", "server").reason == "statement 1 of policy 'open' allows it"
    assert principal.decide("a:b", "server").reason == "statement 2 of policy 'shut' denies it"
    assert Principal("p", "k", []).decide("a:b", "server").reason == "no policy allows it"


def test_remembered_decisions_are_bounded() -> None:
    principal = Principal("p", "k", [Statement("p", 1, True, ("*",), ("model/*",))])
    for number in range(3000):
        assert authorize(principal, "a:b", f"model/{number}")
    assert len(principal._decisions) <= 1024
