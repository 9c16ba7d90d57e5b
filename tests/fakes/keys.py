"""A keys file's content: three people, and what proves that it is they."""

from __future__ import annotations

import hashlib
from typing import Any, Final

ALICE: Final = "alice-has-a-token"
BOB: Final = "bob-has-a-token"
READER: Final = "reader-has-a-token"
SECRETS: Final = {"AKALICE": "alice-has-a-secret-too", "AKBOB": "bob-has-a-secret-too"}


def hashed(token: str) -> str:
    """As it stands in the file."""
    return hashlib.sha256(token.encode()).hexdigest()


def document(**alice: Any) -> dict[str, Any]:
    """alice may ask the model `warm` and what is read; bob may do everything; reader only reads.

    `alice`: more fields of her key.
    """
    return {
        "keys": [
            {
                "id": "AKALICE",
                "principal": "alice",
                "secret": SECRETS["AKALICE"],
                "tokens_sha256": [hashed(ALICE)],
                "policies": ["warm"],
                **alice,
            },
            {
                "id": "AKBOB",
                "principal": "bob",
                "secret": SECRETS["AKBOB"],
                "tokens_sha256": [hashed(BOB)],
                "policies": ["everything"],
            },
            {
                "id": "AKREADER",
                "principal": "reader",
                "tokens_sha256": [hashed(READER)],
                "certificate": "reader.example",
                "policies": ["read"],
            },
        ],
        "policies": {
            "everything": [{"effect": "allow", "actions": ["*"], "resources": ["*"]}],
            "read": [{"effect": "allow", "actions": ["hostler:Read*"], "resources": ["*"]}],
            "warm": [
                {
                    "effect": "allow",
                    "actions": ["hostler:Infer", "sagemaker:InvokeEndpoint"],
                    "resources": ["model/warm", "arn:aws:sagemaker:*:*:endpoint/Warm-*"],
                },
                {"effect": "deny", "actions": ["*"], "resources": ["*:endpoint/warm-secret"]},
            ],
        },
    }
