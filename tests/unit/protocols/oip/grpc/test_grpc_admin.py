"""Everything but inference: read with our codec what a client writes, and the other way round."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fakes.gateway import FakeStatus, spec_named
from tritonclient.grpc import service_pb2 as pb

from hostler.core import Code, HostlerError, Stats
from hostler.protocols.oip import grpc as wire


def test_questions_about_a_model_have_one_form() -> None:
    for kind in (
        pb.ModelReadyRequest,
        pb.ModelMetadataRequest,
        pb.ModelConfigRequest,
        pb.ModelStatisticsRequest,
    ):
        assert wire.parse_model(kind(name="m", version="2").SerializeToString()) == ("m", "2")


def test_health_of_the_server() -> None:
    assert pb.ServerLiveResponse.FromString(wire.live_answer(True)).live
    assert not pb.ServerReadyResponse.FromString(wire.ready_answer(False)).ready
    assert pb.ModelReadyResponse.FromString(wire.model_ready_answer(True)).ready


def test_metadata_of_server_and_model() -> None:
    answer = wire.server_metadata_answer("1.2", ("statistics",), "hostler")
    server = pb.ServerMetadataResponse.FromString(answer)
    assert (server.name, server.version, list(server.extensions)) == (
        "hostler",
        "1.2",
        ["statistics"],
    )
    answer = wire.model_metadata_answer(spec_named("m"), [1, 3])
    model = pb.ModelMetadataResponse.FromString(answer)
    assert (model.name, list(model.versions), model.platform) == (
        "m",
        ["1", "3"],
        "onnxruntime_onnx",
    )
    assert [(i.name, i.datatype, list(i.shape)) for i in model.inputs] == [("X", "FP32", [-1, 2])]


def test_the_configuration_of_a_model() -> None:
    answer = pb.ModelConfigResponse.FromString(wire.model_config_answer(spec_named("m")))
    assert (answer.config.name, answer.config.max_batch_size) == ("m", 8)


def test_statistics() -> None:
    stats = Stats()
    stats.ran(4, 0.001, 0.002, 0.003)
    stats.succeed(0.5)
    stats.last_inference_wall_s = 1_700_000_000.5
    answer = wire.model_statistics_answer([("m", 2, stats)])
    (found,) = pb.ModelStatisticsResponse.FromString(answer).model_stats
    assert (found.name, found.version, found.last_inference) == ("m", "2", 1_700_000_000_500)
    assert (found.inference_count, found.execution_count) == (4, 1)
    assert found.inference_stats.success.ns == 500_000_000
    assert found.batch_stats[0].batch_size == 4


def test_the_index() -> None:
    rows = [FakeStatus("a", 1), FakeStatus("b", 2, "UNAVAILABLE", "it is \ud800")]
    models = pb.RepositoryIndexResponse.FromString(
        wire.repository_index_answer(rows, ready=False)
    ).models
    assert [(m.name, m.version, m.state, m.reason) for m in models] == [
        ("a", "1", "READY", ""),
        ("b", "2", "UNAVAILABLE", "it is ?"),
    ]
    ready = wire.repository_index_answer(rows, ready=True)
    assert len(pb.RepositoryIndexResponse.FromString(ready).models) == 1
    assert wire.parse_index(pb.RepositoryIndexRequest(ready=True).SerializeToString())
    assert not wire.parse_index(b"")


def load(**parameters: Any) -> bytes:
    message = pb.RepositoryModelLoadRequest(model_name="m")
    for key, (field, value) in parameters.items():
        setattr(message.parameters[key.replace("__", ":")], field, value)
    return bytes(message.SerializeToString())


def test_a_load_with_config_and_files() -> None:
    assert wire.parse_load(load()) == ("m", None, {})
    data = load(
        config=("string_param", '{"max_batch_size": 2}'),
        **{"file__1/model.onnx": ("bytes_param", b"\xff\0")},
    )
    assert wire.parse_load(data) == ("m", {"max_batch_size": 2}, {"1/model.onnx": b"\xff\0"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (load(config=("int64_param", 1)), "'config' of the load request must be a string"),
        (load(config=("string_param", "[")), "not valid JSON"),
        (load(config=("string_param", "{}"), file__1=("bytes_param", b"")), "must name a file"),
        (
            load(config=("string_param", "{}"), **{"file__1/m": ("string_param", "eHg=")}),
            "expected bytes_param",
        ),
        (load(**{"file__1/m": ("bytes_param", b"")}), "need the parameter 'config'"),
        (load(**{"file__1/../m": ("bytes_param", b"")}), "inside the version's folder"),
        (load(other=("bool_param", True)), "unknown parameter 'other'"),
    ],
    ids=itertools.count(),
)
def test_loads_that_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(HostlerError) as caught:
        wire.parse_load(data)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert words in caught.value.message


def test_an_unload() -> None:
    message = pb.RepositoryModelUnloadRequest(model_name="m")
    assert wire.parse_unload(message.SerializeToString()) == ("m", False)
    message.parameters["unload_dependents"].bool_param = True
    assert wire.parse_unload(message.SerializeToString()) == ("m", True)
    message.parameters["unload_dependents"].string_param = "yes"
    with pytest.raises(HostlerError, match="must be true or false"):
        wire.parse_unload(message.SerializeToString())


@dataclass
class Row:
    name: str = "r"
    key: str = "/k"
    offset: int = 4
    byte_size: int = 8


def test_shared_memory() -> None:
    register = pb.SystemSharedMemoryRegisterRequest(name="r", key="/k", offset=4, byte_size=8)
    assert wire.parse_memory_register(register.SerializeToString()) == ("r", "/k", 4, 8)
    for kind in (
        pb.SystemSharedMemoryStatusRequest,
        pb.SystemSharedMemoryUnregisterRequest,
        pb.CudaSharedMemoryStatusRequest,
        pb.CudaSharedMemoryUnregisterRequest,
        pb.CudaSharedMemoryRegisterRequest,
    ):
        assert wire.parse_region(kind(name="r").SerializeToString()) == "r"
    answer = wire.memory_status_answer([Row()])
    region = pb.SystemSharedMemoryStatusResponse.FromString(answer).regions["r"]
    assert (region.name, region.key, region.offset, region.byte_size) == ("r", "/k", 4, 8)


@pytest.mark.parametrize("field", ["name", "key"])
def test_a_region_of_an_endless_name_is_refused(field: str) -> None:
    register = pb.SystemSharedMemoryRegisterRequest(**{"name": "r", "key": "/k", field: "/" * 1025})
    with pytest.raises(HostlerError, match="1024 characters at most") as caught:
        wire.parse_memory_register(register.SerializeToString())
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("parse", [wire.parse_trace_setting, wire.parse_log_settings])
def test_settings_without_end_are_refused(parse: Callable[[bytes], object]) -> None:
    entries = b"".join(b"\x0a\x08\x0a\x06%06x" % number for number in range(10_000))
    with pytest.raises(HostlerError, match="65536 are the most") as caught:
        parse(entries)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_trace_settings() -> None:
    message = pb.TraceSettingRequest(model_name="m")
    message.settings["trace_level"].value.append("OFF")
    message.settings["trace_rate"].SetInParent()
    assert wire.parse_trace_setting(message.SerializeToString()) == (
        "m",
        {"trace_level": ["OFF"], "trace_rate": []},
    )
    answer = wire.trace_setting_answer({"trace_level": ["OFF"], "trace_rate": "100"})
    settings = pb.TraceSettingResponse.FromString(answer).settings
    assert {name: list(setting.value) for name, setting in settings.items()} == {
        "trace_level": ["OFF"],
        "trace_rate": ["100"],
    }


def test_log_settings() -> None:
    message = pb.LogSettingsRequest()
    message.settings["log_info"].bool_param = False
    message.settings["log_verbose_level"].uint32_param = 2
    message.settings["log_format"].SetInParent()
    assert wire.parse_log_settings(message.SerializeToString()) == {
        "log_info": False,
        "log_verbose_level": 2,
        "log_format": None,
    }
    answer = wire.log_settings_answer({"log_info": True, "log_verbose_level": 1, "log_file": ""})
    settings = pb.LogSettingsResponse.FromString(answer).settings
    assert settings["log_info"].bool_param
    assert settings["log_verbose_level"].uint32_param == 1
    assert settings["log_file"].WhichOneof("parameter_choice") == "string_param"


def test_health_messages() -> None:
    assert wire.parse_health(b"\x0a\x01m") == "m"
    assert [wire.health_answer(status) for status in (True, False, None)] == [
        b"\x08\x01",
        b"\x08\x02",
        b"\x08\x03",
    ]
    assert wire.health_list_answer({"m": True}) == b"\x0a\x07\x0a\x01m\x12\x02\x08\x01"


@pytest.mark.parametrize(
    "parse",
    [
        wire.parse_model,
        wire.parse_index,
        wire.parse_load,
        wire.parse_unload,
        wire.parse_region,
        wire.parse_memory_register,
        wire.parse_trace_setting,
        wire.parse_log_settings,
        wire.parse_health,
    ],
    ids=lambda function: function.__name__,
)
def test_what_is_no_message_is_refused(parse: Callable[[bytes], object]) -> None:
    with pytest.raises(HostlerError) as caught:
        parse(b"\xff\xff\xff")
    assert caught.value.code is Code.INVALID_ARGUMENT
