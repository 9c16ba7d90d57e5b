"""`hostler keys`: made, listed, checked; and `--token` of the clients."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.http_connection import Reply
from fakes.keys import ALICE, document


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump(document(expires="2020-01-01")))
    path.chmod(0o600)
    return path


def test_a_first_key_begins_a_file(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    ran = run("keys", "create", "carol", "--policy", "invoke", "--file", str(path))
    assert ran.code == 0
    told = dict(line.split("=", 1) for line in ran.out.splitlines())
    (key,) = yaml.safe_load(path.read_text())["keys"]
    assert (key["principal"], key["policies"]) == ("carol", ["invoke"])
    assert key["id"] == told["AWS_ACCESS_KEY_ID"]
    assert key["secret"] == told["AWS_SECRET_ACCESS_KEY"]
    assert key["tokens_sha256"] == [hashlib.sha256(told["HOSTLER_TOKEN"].encode()).hexdigest()]
    assert told["HOSTLER_TOKEN"] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "carol with invoke" in ran.error
    assert run("keys", "check", str(path)).out == f"{path}: 1 key, it makes sense\n"


def test_one_more_key(run: Any, file: Path) -> None:
    ran = run("keys", "create", "carol", "--file", str(file), "--json")
    told = json.loads(ran.out)
    assert told["principal"] == "carol"
    assert [key["principal"] for key in yaml.safe_load(file.read_text())["keys"]] == [
        "carol",
        "alice",
        "bob",
        "reader",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("create",), "say for whom"),
        (("create", "a b"), "`$.keys[0].principal`"),
        (("create", "carol", "--policy", "absent"), "there is no policy 'absent' yet, only every"),
        (("create", "carol", "--policy", "*"), "'*' is no name of a policy (letters"),
    ],
)
def test_a_bad_key_is_not_made(run: Any, file: Path, words: tuple[str, ...], text: str) -> None:
    before = file.read_text()
    ran = run("keys", *words, "--file", str(file))
    assert ran.code in (1, 2)
    assert text in ran.error
    assert str(file) in ran.error or ran.code == 2
    assert file.read_text() == before
    assert [path.name for path in file.parent.iterdir()] == ["keys.yaml"]


def test_the_list_has_no_secrets(run: Any, file: Path) -> None:
    ran = run("keys", "list", "--set", f"gateway.keys_file={file}")
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[1][:3] == ["AKALICE", "alice", "warm"]
    assert rows[1][-2:] == ["2020-01-01T00:00:00+00:00", "expired"]
    assert rows[3] == [
        *("AKREADER", "reader", "read", "1", "token,", "certificate", "never", "in", "force")
    ]
    for key in document()["keys"]:
        assert key.get("secret", "?") not in ran.out
        assert key["tokens_sha256"][0] not in ran.out
    listed = json.loads(run("keys", "list", str(file), "--json").out)
    assert listed[1]["proves_by"] == "sigv4, 1 token"


@pytest.mark.parametrize(
    ("who", "resource", "code", "text"),
    [
        ("bob", "model/x", 0, "statement 1 of policy 'everything' allows it"),
        ("AKBOB", "model/x", 0, "allowed: AKBOB with key AKBOB"),
        ("reader", "model/x", 1, "refused: reader with key AKREADER: no policy"),
        ("alice", "model/warm", 1, "has expired at 2020-01-01"),
    ],
)
def test_what_somebody_may_do(
    run: Any, file: Path, who: str, resource: str, code: int, text: str
) -> None:
    words = ("--as", who, "--action", "hostler:Infer", "--resource", resource)
    ran = run("keys", "check", str(file), *words)
    assert (ran.code, text in ran.out) == (code, True), ran.out
    (answer,) = json.loads(run("keys", "check", str(file), *words, "--json").out)
    assert answer["allowed"] is (code == 0)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--as", "bob"), 2, "go together"),
        (("--as", "x", "--action", "a:b", "--resource", "server"), 1, "no key is 'x'"),
    ],
)
def test_checks_that_cannot_be(
    run: Any, file: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    ran = run("keys", "check", str(file), *words)
    assert (ran.code, text in ran.error) == (code, True), ran.error


def test_one_more_key_leaves_the_file_to_its_server(run: Any, file: Path) -> None:
    file.chmod(0o640)  # root's, and read by the group that the server runs in
    run("keys", "create", "dora", "--file", file)
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_that_others_may_read_is_not_taken(run: Any, file: Path) -> None:
    file.chmod(0o644)
    ran = run("keys", "check", str(file))
    assert ran.code == 1
    assert "chmod 600" in ran.error


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_clients_send_their_token(
    run: Any, serve_replies: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    server = serve_replies({"/v2/hostler/models": Reply(b'{"models": []}')})
    words = ("--token", ALICE) if how == "flag" else ()
    if how == "variable":
        monkeypatch.setenv("HOSTLER_TOKEN", ALICE)
    assert run("models", *words).code == 0
    assert server.asked[0].headers["Authorization"] == f"Bearer {ALICE}"


def test_a_token_is_one_word(run: Any) -> None:
    ran = run("models", "--token", "a b")
    assert ran.code == 2
    assert "a b" not in ran.error


def test_a_policy_that_a_new_file_will_not_have(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    ran = run("keys", "create", "carol", "--policy", "only-up", "--file", str(path))
    assert ran.code == 1
    for text in (
        "there is no policy 'only-up' yet, only administrator, invoke, read-only;",
        "make the key without --policy, then add the policy to the file",
    ):
        assert text in ran.error
    assert not path.exists()


SLIPS = [
    ("sagemaker:InvokEndpoint", "*", "'sagemaker:InvokEndpoint'; did you mean sagemaker:InvokeEn"),
    ("hostler:Infr", "model/x", "did you mean hostler:Infer?"),
    ("sagemaker:Train*", "*", "no action of this server is 'sagemaker:Train*'"),
    ("hostler:Infer", "warm", "is about 'warm', but model/<name> or server"),
    ("hostler:Infer", "Model/warm", "is about 'Model/warm'"),
    ("sagemaker:InvokeEndpoint", "endpoint/warm", "is about 'endpoint/warm', but an ARN"),
    (
        "sagemaker:DescribeModel",
        "arn:aws:sagemaker:model/x",
        "is about 'arn:aws:sagemaker:model/x'",
    ),
    ("sagemaker:ListModels", "arn:aws:sagemaker:*", "no resource at all, which is '*'"),
]


@pytest.mark.parametrize(("action", "resource", "text"), SLIPS)
def test_slips_are_told(
    run: Any, file: Path, tmp_path: Path, action: str, resource: str, text: str
) -> None:
    statement = {"effect": "allow", "actions": [action], "resources": [resource]}
    written = document()
    written["policies"]["unused"] = [statement]
    file.write_text(yaml.safe_dump(written))
    ran = run("keys", "check", str(file))
    (line,) = ran.error.splitlines()
    assert line.startswith("warning: statement 1 of policy 'unused': ")
    assert text in line
    assert (ran.code, "3 keys, read, with the warnings above" in ran.out) == (0, True)
    words = ("--as", "bob", "--action", action, "--resource", resource)
    file.write_text(yaml.safe_dump(document()))
    (line,) = run("keys", "check", str(file), *words).error.splitlines()
    assert text in line


def test_an_action_that_none_of_the_resources_is_for(run: Any, file: Path) -> None:
    written = document()
    written["policies"]["warm"][0]["resources"] = ["model/warm"]
    file.write_text(yaml.safe_dump(written))
    (line,) = run("keys", "check", str(file)).error.splitlines()
    assert line.endswith("is one of 'sagemaker:InvokeEndpoint', which is for an ARN")


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("*", "*"),
        ("HOSTLER:infer", "mod*"),
        ("hostler:Infer", "serve?"),
        ("hostler:Read*", "server"),
        ("sagemaker:invokeendpoint*", "ARN:aws:sagemaker:*:*:endpoint/Warm-*"),
        ("sagemaker:InvokeEndpointWithResponseStream", "*:endpoint/warm"),
        ("sagemaker:ListEndpoints", "*"),
        ("application-autoscaling:Put*", "arn:aws:sagemaker:*"),
    ],
)
def test_what_makes_sense_is_not_warned_of(
    run: Any, file: Path, action: str, resource: str
) -> None:
    written = document()
    written["policies"]["unused"] = [
        {"effect": "allow", "actions": [action], "resources": [resource]}
    ]
    file.write_text(yaml.safe_dump(written))
    ran = run("keys", "check", str(file))
    assert (ran.error, ran.code) == ("", 0)
    assert ran.out.endswith("3 keys, all of them make sense\n")
