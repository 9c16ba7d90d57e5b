"""When a connection has been quiet for too long, and where the server may listen."""

from __future__ import annotations

import pytest

from hostler.core import HostlerError
from hostler.gateway import Config
from hostler.gateway.address import check_address, warn_of_clear_text
from hostler.gateway.http.limits import Overdue, Phase, overdue

CONFIG = Config(header_timeout_s=2, body_timeout_s=3, keep_alive_s=5, linger_s=1)


@pytest.mark.parametrize(
    ("phase", "quiet_s", "unsent_bytes", "expected"),
    [
        (Phase.IDLE, 4.9, 0, None),
        (Phase.IDLE, 5.1, 0, Overdue.CLOSE),
        (Phase.HEAD, 1.9, 0, None),
        (Phase.HEAD, 2.1, 0, Overdue.REFUSE),
        (Phase.BODY, 2.9, 0, None),
        (Phase.BODY, 3.1, 0, Overdue.REFUSE),
        (Phase.ANSWER, 1e9, 0, None),
        (Phase.CLOSING, 0.9, 0, None),
        (Phase.CLOSING, 1.1, 0, Overdue.ABORT),
        (Phase.ANSWER, 3.1, 1, Overdue.ABORT),
        (Phase.IDLE, 3.1, 1, Overdue.ABORT),
        (Phase.CLOSING, 2.9, 1, None),
    ],
)
def test_overdue(phase: Phase, quiet_s: float, unsent_bytes: int, expected: Overdue | None) -> None:
    assert overdue(phase, quiet_s, unsent_bytes, CONFIG) is expected


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_leave(host: str) -> None:
    check_address(Config(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_addresses_must_be_asked_for_in_words(host: str) -> None:
    with pytest.raises(HostlerError, match="allow_unauthenticated_remote"):
        check_address(Config(host=host))
    check_address(Config(host=host, allow_unauthenticated_remote=True))


def test_clients_with_certificates_are_known() -> None:
    check_address(Config(host="0.0.0.0", tls_certificate="a", tls_client_ca="b"))
    with pytest.raises(HostlerError, match="tls_client_ca"):
        check_address(Config(host="0.0.0.0", tls_certificate="a"))


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "tls_certificate": "a"}, False),
        ({"host": "127.0.0.1"}, False),
    ],
)
def test_keys_are_enough_to_listen_beyond_loopback(
    settings: dict[str, str], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(keys_file="keys.yaml", **settings)
    check_address(config)
    warn_of_clear_text(config)
    assert [record.getMessage() for record in caplog.records] == (
        ["gateway.tokens_in_clear"] if warned else []
    )
