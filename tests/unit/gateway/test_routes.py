"""What paths mean."""

from __future__ import annotations

import pytest

from hostler.gateway.http.routes import match


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/v2", ("server_metadata", "", None)),
        (b"/v2/", ("server_metadata", "", None)),
        (b"/v2/models/stats", ("statistics", "", None)),
        (b"/v2/models/m", ("metadata", "m", None)),
        (b"/v2/models/m/", ("metadata", "m", None)),
        (b"/v2/models/m/versions/7", ("metadata", "m", 7)),
        (b"/v2/models/m/versions/7/infer", ("infer", "m", 7)),
        (b"/v2/models/m/infer_stream", ("infer_stream", "m", None)),
        (b"/v2/models/m/versions/7/generate", ("generate", "m", 7)),
        (b"/v2/models/m/generate_stream", ("generate_stream", "m", None)),
        (b"/v2/models/m/trace/setting", ("trace_settings", "m", None)),
        (b"/v2/trace/setting", ("trace_settings", "", None)),
        (b"/v2/logging", ("log_settings", "", None)),
        (b"/v2/models/m/trace", None),
        (b"/v2/trace", None),
        (b"/v2/models/a%20b%2Fc/infer", ("infer", "a b/c", None)),
        (b"/v2/models/%C3%A9/infer", ("infer", "é", None)),
        (b"/v2/models/%FF/infer", ("infer", "\ufffd", None)),
        (b"/v2/models/stats/stats", ("statistics", "stats", None)),
        (b"/v2/models/versions/versions/1/ready", ("model_ready", "versions", 1)),
        (b"/v2/repository/index", ("index", "", None)),
        (b"/v2/repository/zoo/index", ("index", "", None)),
        (b"/v2/repository/models/m/load", ("load", "m", None)),
        (b"/v2/repository/zoo/models/m/unload", ("unload", "m", None)),
        (b"/v2/repository/models/models/m/unload", None),
        (b"/v2/hostler/models", ("table", "", None)),
        (b"/metrics", ("metrics", "", None)),
        (b"/v2/systemsharedmemory/status", ("memory_status", "", None)),
        (b"/v2/systemsharedmemory/unregister", ("memory_unregister", "", None)),
        (b"/v2/cudasharedmemory/unregister", ("cuda_unregister", "", None)),
        (b"/v2/systemsharedmemory", None),
        (b"/v2/systemsharedmemory/register", None),
        (b"/v2/systemsharedmemory/region/status", None),
        (b"/v2/systemsharedmemory/region//status", None),
        (b"/v2/systemsharedmemory/region/r/other", None),
        (b"/v2/systemsharedmemory/region/r/status/more", None),
        (b"/v3/systemsharedmemory/status", None),
        (b"", ("aws", "", None)),
        (b"/", ("aws", "", None)),
        (b"//v2", None),
        (b"/v3", None),
        (b"/v2/models", None),
        (b"/v2/models//infer", None),
        (b"/v2/models/m/versions", None),
        (b"/v2/models/m/versions/1/2", None),
        (b"/v2/models/a/b/infer", None),
        (b"/v2/repository", None),
        (b"/v2/repository/models/index", None),
        (b"/v2/repository/models//load", None),
        (b"/V2", None),
    ],
)
def test_match(path: bytes, expected: tuple[str, str, int | None] | None) -> None:
    route = match(path)
    found = None if route is None else (route.action, route.model, route.version)
    assert found == expected


@pytest.mark.parametrize("kind", ["system", "cuda"])
@pytest.mark.parametrize("action", ["status", "register", "unregister"])
def test_regions_of_shared_memory(kind: str, action: str) -> None:
    route = match(f"/v2/{kind}sharedmemory/region/a%20b/{action}".encode())
    assert route is not None
    assert route.action == f"{'memory' if kind == 'system' else 'cuda'}_{action}"
    assert (route.region, route.model) == ("a b", "")
    assert route.methods == (("GET", "HEAD") if action == "status" else ("POST",))


@pytest.mark.parametrize("version", [b"v1", b"1.0", b"-1", b"+1", b"%D9%A1", b"9" * 19, b""])
def test_a_version_that_is_no_number_is_kept_for_the_message(version: bytes) -> None:
    route = match(b"/v2/models/m/versions/" + version + b"/infer")
    assert route is not None
    assert route.version is None
    assert route.bad_version
