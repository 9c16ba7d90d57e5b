"""Every exception of the libraries below is one of ours, and tells no secret."""

from __future__ import annotations

import builtins

import obstore.exceptions
import pytest
import sqlalchemy.exc

from hostler.core import Code
from hostler.storage.objects.failures import CODES, failure, has_answered, is_transient
from hostler.storage.sql.engine import failure as sql_failure

OBSTORE = {name for name in vars(obstore.exceptions) if name.endswith("Error")}


def test_every_exception_of_obstore_has_a_code() -> None:
    assert set(CODES) == OBSTORE


def _error(name: str, text: str) -> Exception:
    return type(name, (Exception,), {})(text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_error("PermissionDeniedError", "no"), Code.PERMISSION_DENIED),
        (_error("UnauthenticatedError", "no"), Code.PERMISSION_DENIED),
        (_error("NotSupportedError", "no"), Code.UNIMPLEMENTED),
        (_error("PreconditionError", "no"), Code.UNAVAILABLE),
        (_error("GenericError", "error sending request"), Code.UNAVAILABLE),
        (_error("GenericError", "non-2xx status code: 404 Not Found"), Code.NOT_FOUND),
        (_error("GenericError", "non-2xx status code: 400 Bad"), Code.INVALID_ARGUMENT),
        (_error("GenericError", "non-2xx status code: 503 Slow Down"), Code.UNAVAILABLE),
        (_error("GenericError", "Content-Length Header missing from response"), Code.UNIMPLEMENTED),
        (FileNotFoundError("no"), Code.NOT_FOUND),
        (ValueError("Could not parse path"), Code.INVALID_ARGUMENT),
        (OSError("no"), Code.UNAVAILABLE),
        (RuntimeError("no"), Code.INTERNAL),
    ],
)
def test_the_code_is_that_of_the_reason(error: Exception, code: Code) -> None:
    assert failure(error, "s3://b/k").code is code


def test_a_message_names_the_object_and_what_the_server_said() -> None:
    text = (
        "Generic S3 error: status code: 404 Not Found: <Error><Code>NoSuchBucket</Code>"
        "<Message>The bucket does not exist</Message></Error>\n\nDebug source: a lot"
    )
    assert failure(_error("GenericError", text), "s3://b/k").message == (
        "s3://b/k: there is no such bucket (NoSuchBucket: The bucket does not exist)"
    )


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (_error("GenericError", "error sending request"), True),
        (_error("GenericError", "non-2xx status code: 503 Slow Down"), True),
        (_error("GenericError", "non-2xx status code: 429 Too Many Requests"), True),
        (_error("GenericError", "non-2xx status code: 400 Bad"), False),
        (_error("GenericError", "Content-Length Header missing from response"), False),
        (_error("PermissionDeniedError", "no"), False),
        (FileNotFoundError("no"), False),
    ],
)
def test_what_is_worth_another_try(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_a_message_is_one_line() -> None:
    text = "<Error><Code>BlobNotFound</Code><Message>It is gone.\nRequestId:1\nTime:2</Message>"
    assert "\n" not in failure(_error("GenericError", text), "az://b/k").message


RETRIED = (
    "Generic S3 error: Error performing HEAD {}/b/k in 103.18ms, after 4 retries, max_retries: 4, "
    "retry_timeout: 150s  - HTTP error: error sending request\n\nDebug source:\n{}"
)


@pytest.mark.parametrize(
    ("server", "account", "reason"),
    [
        (
            "http://127.0.0.1:9000",
            'ConnectError("tcp connect error", Os { code: 111, kind: ConnectionRefused })',
            "connection refused by http://127.0.0.1:9000",
        ),
        (
            "http://nosuch.invalid",
            'ConnectError("dns error", Custom { kind: Uncategorized })',
            "DNS does not know the host of http://nosuch.invalid",
        ),
        (
            "https://host:9000",
            "Custom { kind: InvalidData, error: InvalidMessage(InvalidContentType) }",
            "TLS: https://host:9000 does not speak TLS",
        ),
        (
            "https://host",
            "Custom { error: InvalidCertificate(UnknownIssuer) }",
            "TLS: the certificate of https://host is not trusted, see storage.ca_file",
        ),
        ("https://host", "something else", "HTTP error: error sending request"),
    ],
)
def test_a_store_that_cannot_be_reached_in_plain_words(
    server: str, account: str, reason: str
) -> None:
    error = _error("GenericError", RETRIED.format(server, account))
    assert failure(error, "s3://b/k").message == f"s3://b/k: the store cannot be reached ({reason})"


def test_a_store_that_answers_is_reached() -> None:
    text = RETRIED.format("http://host", "").replace(
        "HTTP error: error sending request", "Server returned non-2xx status code: 503 Slow: "
    )
    assert failure(_error("GenericError", text), "s3://b/k").message == (
        "s3://b/k: the store cannot answer now (status code: 503 Slow)"
    )


def test_an_object_that_is_not_there_without_the_library_s_words() -> None:
    error = FileNotFoundError(
        "Object at location k not found: Error performing HEAD http://host/b/k in 715.3µs - Server "
        "returned non-2xx status code: 404 Not Found: \n\nDebug source:\nNotFound {}"
    )
    assert failure(error, "s3://b/k").message == (
        "s3://b/k: there is no such object (status code: 404 Not Found)"
    )


def test_signatures_in_addresses_are_not_shown() -> None:
    text = "error for url (https://host/a?X-Amz-Signature=hunter2) <- https://host/b?sig=hunter2"
    assert "hunter2" not in failure(_error("GenericError", text), "https://host/a").message


def test_a_refused_connection_is_no_answer() -> None:
    assert not has_answered(_error("GenericError", "HTTP error: error sending request"))
    assert has_answered(_error("GenericError", "status code: 500"))
    assert has_answered(_error("PermissionDeniedError", "no"))


SQL_ERRORS = [
    kind
    for kind in vars(sqlalchemy.exc).values()
    if isinstance(kind, builtins.type) and issubclass(kind, sqlalchemy.exc.DBAPIError)
]


@pytest.mark.parametrize("kind", SQL_ERRORS)
def test_every_error_of_a_database_has_a_code(kind: type[sqlalchemy.exc.DBAPIError]) -> None:
    error = kind("SELECT secret", None, RuntimeError("no\nmore"))
    found = sql_failure(error, "the database x")
    assert found.message.startswith("the database x: no more")
    assert "SELECT" not in found.message
    mistakes = (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.NotSupportedError)
    assert (found.code is Code.INTERNAL) == issubclass(kind, mistakes)
