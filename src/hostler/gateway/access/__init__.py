"""Who may do what: keys, signatures, policies, rates, the audit log."""

from hostler.gateway.access.access import Access, Claim, check_access
from hostler.gateway.access.doubts import doubts, doubts_of
from hostler.gateway.access.issue import NewKey, new_key
from hostler.gateway.access.keyring import Parse, read_keys
from hostler.gateway.access.keys import Key, Keys, parse_keys
from hostler.gateway.access.policy import Decision, Principal, Statement, authorize
from hostler.gateway.access.rights import (
    DEFERRED,
    HTTP,
    OPEN,
    RPC,
    SERVER,
    Right,
    asked_of,
    endpoint_arn,
    model_resource,
    right_of,
)

__all__ = [
    "DEFERRED",
    "HTTP",
    "OPEN",
    "RPC",
    "SERVER",
    "Access",
    "Claim",
    "Decision",
    "Key",
    "Keys",
    "NewKey",
    "Parse",
    "Principal",
    "Right",
    "Statement",
    "asked_of",
    "authorize",
    "check_access",
    "doubts",
    "doubts_of",
    "endpoint_arn",
    "model_resource",
    "new_key",
    "parse_keys",
    "read_keys",
    "right_of",
]
