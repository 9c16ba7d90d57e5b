from pathlib import Path

import pytest

from hostler.core import Batching, HostlerError, InstanceGroup, ModelSpec, QueuePolicy
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository.derive import derive, normalise
from hostler.repository.platforms import PLATFORMS

SPEC = ModelSpec("m", 1, Path("/r/m"), Path("/r/m/1/model.onnx"), "onnx")


def spec_of(text) -> ModelSpec:
    config = normalise(to_json(parse_text(text, "config.pbtxt")), "m", PLATFORMS[0], "model.onnx")
    return derive(SPEC, config, rows_known=True)


@pytest.mark.parametrize(
    ("text", "batching"),
    [
        ("", Batching()),
        ("max_batch_size: 8", Batching(rows_max=8)),
        ("max_batch_size: 8 dynamic_batching {}", Batching(rows_max=8)),
        (
            "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1500 }",
            Batching(rows_max=8, delay_s=0.0015),
        ),
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 8, 4, 4 ] "
            "preserve_ordering: true }",
            Batching(rows_max=8, tuned=False, preferred=(4, 8), preserve_ordering=True),
        ),
        (
            "max_batch_size: 8 dynamic_batching { priority_levels: 3 default_priority_level: 2 "
            "default_queue_policy { max_queue_size: 5 } priority_queue_policy { key: 1 value { "
            "timeout_action: DELAY default_timeout_microseconds: 2000000 "
            "allow_timeout_override: true } } }",
            Batching(
                rows_max=8,
                priority_levels=3,
                default_priority=2,
                default_policy=QueuePolicy(size_max=5),
                policies={1: QueuePolicy(2.0, delay_on_timeout=True, timeout_override=True)},
            ),
        ),
    ],
)
def test_batching(text, batching):
    found = spec_of(text).batching
    assert found.delay_s == pytest.approx(batching.delay_s)
    assert found.policies == batching.policies
    assert (found.rows_max, found.tuned, found.preferred) == (
        batching.rows_max,
        batching.tuned,
        batching.preferred,
    )
    assert found.default_policy == batching.default_policy
    assert (found.priority_levels, found.default_priority, found.preserve_ordering) == (
        batching.priority_levels,
        batching.default_priority,
        batching.preserve_ordering,
    )


@pytest.mark.parametrize(
    ("text", "instances", "count"),
    [
        ("", (InstanceGroup(),), 1),
        ("instance_group [ {} ]", (InstanceGroup(),), 1),
        ("instance_group [ { count: 3 kind: KIND_CPU } ]", (InstanceGroup(3, "cpu"),), 3),
        (
            "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 2 ] }, { kind: KIND_CPU } ]",
            (
                InstanceGroup(2, "gpu", (0,)),
                InstanceGroup(2, "gpu", (2,)),
                InstanceGroup(1, "cpu"),
            ),
            5,
        ),
        ("instance_group [ { kind: KIND_GPU } ]", (InstanceGroup(1, "gpu"),), 1),
        ("instance_group [ { kind: KIND_MODEL } ]", (InstanceGroup(),), 1),
    ],
)
def test_instances(text, instances, count):
    spec = spec_of(text)
    assert spec.instances == instances
    assert spec.instance_count == count


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        (
            "parameters { key: 'intra_op_thread_count' value { string_value: '2' } }",
            {"intra_op_thread_count": "2"},
        ),
        ("optimization { graph { level: -1 } }", {"graph_optimization_level": "-1"}),
        ("optimization { graph { level: 0 } }", {}),
        ("optimization { graph { level: 1 } }", {"graph_optimization_level": "1"}),
        (
            "optimization { graph { level: 1 } } parameters { key: 'graph_optimization_level' "
            "value { string_value: '2' } }",
            {"graph_optimization_level": "2"},
        ),
        (
            "optimization { execution_accelerators { gpu_execution_accelerator [ "
            "{ name: 'tensorrt' parameters { key: 'trt_fp16_enable' value: '1' } }, "
            "{ name: 'cuda' } ] cpu_execution_accelerator [ { name: 'XnnpackExecutionProvider' } ]"
            " } }",
            {
                "execution_provider.TensorrtExecutionProvider.trt_fp16_enable": "1",
                "execution_providers": "TensorrtExecutionProvider,CUDAExecutionProvider,"
                "XnnpackExecutionProvider",
            },
        ),
    ],
)
def test_options(text, options):
    assert spec_of(text).options == options


@pytest.mark.parametrize(
    ("text", "decoupled"),
    [
        ("", False),
        ("model_transaction_policy {}", False),
        ('backend: "python" model_transaction_policy { decoupled: true }', True),
    ],
)
def test_decoupled(text, decoupled):
    assert spec_of(text).decoupled is decoupled


def test_unknown_accelerators_are_refused():
    text = (
        "optimization { execution_accelerators { gpu_execution_accelerator [ { name: 'auto' } ] } }"
    )
    with pytest.raises(HostlerError, match="'auto' is unknown"):
        spec_of(text)


@pytest.mark.parametrize(
    ("rows_max", "stated", "rows"), [(0, 0, 0), (0, 1, 0), (4, 0, 1), (4, 3, 3)]
)
def test_warmup(rows_max, stated, rows):
    text = (
        f"max_batch_size: {rows_max} model_warmup [ {{ name: 'w' batch_size: {stated} count: 2 "
        "inputs { key: 'b' value { data_type: TYPE_STRING dims: [ 1 ] random_data: true } } "
        "inputs { key: 'a' value { data_type: TYPE_FP16 dims: [ 2, 3 ] zero_data: true } } } ]"
    )
    (warmup,) = spec_of(text).warmup
    assert (warmup.rows, warmup.count) == (rows, 2)
    found = [(i.name, i.datatype.name, i.dims, i.source, i.file) for i in warmup.inputs]
    assert found == [
        ("a", "FP16", (2, 3), "zero", None),
        ("b", "BYTES", (1,), "random", None),
    ]


def test_normalise_writes_what_triton_writes():
    config = spec_of("").config
    assert config["platform"] == "onnxruntime_onnx"
    assert config["backend"] == "onnxruntime"
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["default_model_filename"] == "model.onnx"
    assert config["instance_group"][0]["name"] == "m_0"
    assert config["instance_group"][0]["count"] == 1
    assert list(config)[:6] == [
        "name",
        "platform",
        "backend",
        "runtime",
        "version_policy",
        "max_batch_size",
    ]
