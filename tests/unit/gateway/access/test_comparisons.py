"""Signatures and tokens are compared in a time that tells nothing: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[4] / "src" / "hostler"
FILES = sorted(
    [
        *(SOURCE / "gateway" / "access").glob("*.py"),
        *(SOURCE / "gateway" / "grpc").glob("*.py"),
        SOURCE / "gateway" / "http" / "guard.py",
        SOURCE / "protocols" / "sagemaker" / "sigv4.py",
    ]
)
SECRET = ("secret", "signature", "token", "digest", "sha256", "hexdigest", "password")

# Neither side comes from a client.
OURS = {"kept[0] == secret"}
# Facts about a value, not a value: whether there is one, how long it is, how it begins.
FACTS = (ast.Is, ast.IsNot, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def comparisons(tree: ast.AST) -> Iterator[ast.Compare]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and not all(isinstance(op, FACTS) for op in node.ops):
            yield node


def secret(node: ast.expr) -> bool:
    """Whether a name in an expression is that of something secret."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return any(word in name.lower() for name in names if not name.isupper() for word in SECRET)


def offences(source: str) -> list[str]:
    found = []
    for node in comparisons(ast.parse(source)):
        sides = [node.left, *node.comparators]
        if any(map(secret, sides)) and ast.unparse(node) not in OURS:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_comparison_stops_at_the_first_difference(path: Path) -> None:
    assert offences(path.read_text()) == [], "use hmac.compare_digest"


@pytest.mark.parametrize(
    "bad",
    [
        "signed.signature == given",
        "given != self._token",
        "hexdigest(body) == x",
        "token in tokens",
        "secrets[0] == x.secret",
    ],
)
def test_the_check_finds_what_it_is_for(bad: str) -> None:
    assert offences(f"if {bad}:\n    pass\n")


def test_signatures_and_bodies_are_compared_by_compare_digest() -> None:
    tree = ast.parse((SOURCE / "protocols" / "sagemaker" / "sigv4.py").read_text())
    [check] = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "check"]
    compared = [
        {ast.unparse(argument) for argument in node.args}
        for node in ast.walk(check)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest"
    ]
    assert {"outer.hexdigest().encode()", "signed._signature"} in compared
    assert {"given", "body_sha256"} in compared
    # What is computed is computed for keys that nobody has, too, before any of them is refused.
    refusals = [node.lineno for node in ast.walk(check) if isinstance(node, ast.Raise)]
    calls = [
        n.lineno
        for n in ast.walk(check)
        if isinstance(n, ast.Call) and "compare" in ast.unparse(n.func)
    ]
    assert max(calls) < min(refusals)


def test_bearer_tokens_are_looked_up_by_their_hash_alone() -> None:
    """Of a token only its SHA-256 is compared: how far that agrees tells nothing of the token."""
    text = (SOURCE / "gateway" / "access" / "access.py").read_text()
    looked_up = [line.strip() for line in text.splitlines() if "by_token" in line]
    assert looked_up == ["key = self._keys.by_token.get(token_hash(token))"]
