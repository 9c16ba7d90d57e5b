"""`sequence_batching`: what it says, what cannot be meant, and what the model must have."""

from pathlib import Path

import pytest
from fakes.packages import write_package

from hostler.core import (
    DATATYPES,
    Code,
    HostlerError,
    Inspection,
    ModelSpec,
    SequenceControl,
    SequenceState,
    TensorSpec,
)
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository import Config, Repository, complete
from hostler.repository.checks import check_config
from hostler.repository.derive import derive, normalise
from hostler.repository.platforms import PLATFORMS

ONNX = next(platform for platform in PLATFORMS if platform.runtime == "onnx")
PYTHON = next(platform for platform in PLATFORMS if platform.runtime == "python")

START = "kind: CONTROL_SEQUENCE_START"
FLAG = 'control_input [ { name: "%s" control [ { kind: CONTROL_SEQUENCE_%s %s } ] } ] '
STARTED = FLAG % ("START", "START", "int32_false_true: [ 0, 1 ]")
ID = FLAG % ("CORRID", "CORRID", "data_type: TYPE_UINT64")
STATE = 'state [ { input_name: "SI" output_name: "SO" data_type: TYPE_FP32 dims: [ %s ] %s } ] '
X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ] '


def sequences(text):
    return f"sequence_batching {{ {text} }} "


def config_of(text, platform=ONNX):
    return normalise(to_json(parse_text(text, "config.pbtxt")), "m", platform, "model.onnx")


def spec_of(text, *, stated=True):
    file = Path("/r/m/1/model.onnx")
    spec = ModelSpec("m", 1, Path("/r/m"), file, "onnx", rows_ceiling=0 if stated else 64)
    return derive(spec, config_of(text), rows_known=stated)


# -- what it says ----------------------------------------------------------------------------


def test_direct_is_the_default():
    spec = spec_of("max_batch_size: 8 " + sequences(""))
    assert spec.sequencing.direct
    assert spec.sequencing.slots == 8
    assert spec.sequencing.idle_s == 1.0
    assert spec.sequencing.controls == spec.sequencing.states == ()
    assert spec.config["sequence_batching"]["max_sequence_idle_microseconds"] == 1_000_000
    assert spec_of(sequences("direct {}")).sequencing.slots == 1, "an unbatched model has one slot"
    assert spec_of("max_batch_size: 8").sequencing is None


def test_direct_with_all_it_can_say():
    direct = "direct { max_queue_delay_microseconds: 500 minimum_slot_utilization: 0.5 }"
    spec = spec_of("max_batch_size: 4 " + sequences(direct + "max_sequence_idle_microseconds: 5"))
    sequencing = spec.sequencing
    assert sequencing.direct
    assert (sequencing.delay_s, sequencing.slot_utilisation_min) == (pytest.approx(5e-4), 0.5)
    assert sequencing.idle_s == pytest.approx(5e-6)


def test_oldest_joins_like_dynamic_batching():
    oldest = (
        "oldest { max_candidate_sequences: 100 preferred_batch_size: [ 4, 2 ] "
        "max_queue_delay_microseconds: 1000 preserve_ordering: true }"
    )
    spec = spec_of("max_batch_size: 8 " + sequences(oldest))
    assert not spec.sequencing.direct
    assert spec.sequencing.slots == 100
    batching = spec.batching
    assert (batching.rows_max, batching.tuned, batching.preferred) == (8, False, (2, 4))
    assert batching.delay_s == pytest.approx(1e-3)
    assert batching.preserve_ordering
    spec = spec_of("max_batch_size: 8 " + sequences("oldest {}"))
    assert spec.sequencing.slots == 8
    assert spec.batching.tuned


def test_controls_and_states():
    text = sequences(
        FLAG % ("a", "START", "int32_false_true: [ 0, 1 ]")
        + FLAG % ("b", "END", "fp32_false_true: [ -1, 2.5 ]")
        + FLAG % ("c", "READY", "bool_false_true: [ true, false ]")
        + FLAG % ("d", "CORRID", "data_type: TYPE_STRING")
        + STATE % ("-1, 3", "")
    )
    sequencing = spec_of("max_batch_size: 4 " + text).sequencing
    assert sequencing.controls == (
        SequenceControl("a", "start", DATATYPES["INT32"], (0, 1)),
        SequenceControl("b", "end", DATATYPES["FP32"], (-1, 2.5)),
        SequenceControl("c", "ready", DATATYPES["BOOL"], (True, False)),
        SequenceControl("d", "corrid", DATATYPES["BYTES"]),
    )
    state = SequenceState("SI", "SO", DATATYPES["FP32"], (-1, 3), (1, 3))
    assert sequencing.states == (state,)
    initial = "initial_state { data_type: TYPE_FP32 dims: [ 7, 3 ] zero_data: true name: 'z' }"
    sequencing = spec_of(sequences(STATE % ("-1, 3", initial))).sequencing
    assert sequencing.states[0].initial_dims == (7, 3)


# -- what cannot be meant --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        (sequences("oldest { preferred_batch_size: [ 8 ] }"), "preferred_batch_size", "8 is more"),
        (sequences("oldest { preferred_batch_size: [ 0 ] }"), "preferred_batch_size", "0"),
        (sequences("oldest { max_candidate_sequences: -1 }"), "max_candidate_sequences", "-1"),
        (sequences("oldest { max_candidate_sequences: 2000000000 }"), "max_candidate", "65536"),
        (sequences("direct { minimum_slot_utilization: 1.5 }"), "minimum_slot", "1.5"),
        (sequences("direct { minimum_slot_utilization: -0.5 }"), "minimum_slot", "-0.5"),
        (sequences("control_input [ {} ]"), "control_input[0].name", "missing"),
        (sequences('control_input [ { name: "s" } ]'), "control_input 's'.control", "0 controls"),
        (sequences(STARTED + STARTED), "control_input[1].name", "'START' is also"),
        (
            sequences(STARTED + FLAG % ("S2", "START", "int32_false_true: [ 0, 1 ]")),
            "control_input 'S2'.control.kind",
            "also given to sequence_batching.control_input 'START'",
        ),
        (
            sequences(STARTED.replace("START", "x", 1)) + X,
            "control_input[0].name",
            "'x' is also input 'x'",
        ),
        (sequences(FLAG % ("s", "START", "")), "control_input 's'.control", "nothing given"),
        (
            sequences(
                FLAG % ("s", "END", "int32_false_true: [0, 1] bool_false_true: [false, true]")
            ),
            "control_input 's'.control",
            "int32_false_true and bool_false_true given",
        ),
        (
            sequences(FLAG % ("s", "READY", "fp32_false_true: [ 0 ]")),
            "control_input 's'.control.fp32_false_true",
            "1 values",
        ),
        (
            sequences(FLAG % ("c", "CORRID", "data_type: TYPE_FP32")),
            "control_input 'c'.control.data_type",
            "TYPE_FP32",
        ),
        (
            sequences(FLAG % ("c", "CORRID", "data_type: TYPE_INT32 int32_false_true: [ 0, 1 ]")),
            "control_input 'c'.control.int32_false_true",
            "CORRID",
        ),
        (sequences("state [ { output_name: 'o' } ]"), "state[0].input_name", "missing"),
        (sequences("state [ { input_name: 'i' } ]"), "state[0].output_name", "missing"),
        (sequences(STATE % (1, "") + STATE % (1, "")), "state[1].input_name", "'SI' is also"),
        (sequences(STATE.replace("TYPE_FP32", "99") % (1, "")), "state 'SI'.data_type", "99"),
        (sequences(STATE % ("0", "")), "state 'SI'.dims", "holds 0"),
        (sequences(STATE % ("100000, 100000", "")), "state 'SI'.dims", "elements"),
        (
            sequences(
                STATE % (1, "initial_state { data_type: TYPE_INT8 dims: 1 zero_data: true }")
            ),
            "state 'SI'.initial_state.data_type",
            "TYPE_INT8",
        ),
        (
            sequences(
                STATE % (-1, "initial_state { data_type: TYPE_FP32 dims: -1 zero_data: true }")
            ),
            "state 'SI'.initial_state.dims",
            "exact",
        ),
        (
            sequences(
                STATE % (2, "initial_state { data_type: TYPE_FP32 dims: 3 zero_data: true }")
            ),
            "state 'SI'.initial_state.dims",
            "[3] does not fit the state's [2]",
        ),
        (
            sequences(STATE % (2, "initial_state { data_type: TYPE_FP32 dims: 2 }")),
            "state 'SI'.initial_state",
            "zero_data or data_file",
        ),
        (
            sequences(STATE % (2, "initial_state {} initial_state {}")),
            "state 'SI'.initial_state",
            "2 times",
        ),
    ],
)
def test_contradictions_name_the_field(text, place, value):
    with pytest.raises(HostlerError) as e:
        check_config("m", config_of("max_batch_size: 4 " + text), rows_known=True)
    assert e.value.code is Code.INVALID_ARGUMENT
    assert e.value.message.startswith("model 'm': sequence_batching.")
    assert place in e.value.message
    assert value in e.value.message


@pytest.mark.parametrize(
    ("text", "platform", "place"),
    [
        (sequences("iterative_sequence: true"), ONNX, "sequence_batching.iterative_sequence"),
        (sequences(STATE % (1, "")), PYTHON, "sequence_batching.state"),
    ],
)
def test_what_is_not_served(text, platform, place):
    with pytest.raises(HostlerError) as e:
        check_config("m", config_of(text, platform), rows_known=True)
    assert e.value.code is Code.UNIMPLEMENTED
    assert place in e.value.message


def test_two_schedulers_are_refused_by_the_schema():
    with pytest.raises(HostlerError, match=r"dynamic_batching.*sequence_batching"):
        parse_text("sequence_batching {} dynamic_batching {}", "config.pbtxt")


# -- the model itself ------------------------------------------------------------------------

FULL = sequences(STARTED + ID + STATE % ("-1", ""))


def tensor(name, word, *dims):
    return TensorSpec(name, DATATYPES[word], dims)


INPUTS = (
    tensor("x", "FP32", -1, 4),
    tensor("START", "INT32", -1, 1),
    tensor("CORRID", "UINT64", -1, 1),
    tensor("SI", "FP32", -1, -1),
)
OUTPUTS = (tensor("y", "FP32", -1, 4), tensor("SO", "FP32", -1, -1))


@pytest.mark.parametrize("stated", [True, False])
def test_clients_see_neither_controls_nor_states(stated):
    text = ("max_batch_size: 8 " if stated else "") + FULL
    spec = complete(spec_of(text, stated=stated), Inspection(INPUTS, OUTPUTS))
    assert [s.name for s in spec.signature.inputs] == ["x"]
    assert [s.name for s in spec.signature.outputs] == ["y"]
    assert [i["name"] for i in spec.config["input"]] == ["x"]
    assert spec.signature.batched
    assert spec.sequencing.slots == spec.batching.rows_max == (8 if stated else 64)
    assert "dynamic_batching" not in spec.config


def test_a_listed_state_output_is_shown():
    output = 'output [ { name: "SO" data_type: TYPE_FP32 dims: [ -1 ] } ]'
    spec = complete(spec_of("max_batch_size: 8 " + FULL + output), Inspection(INPUTS, OUTPUTS))
    assert [s.name for s in spec.signature.outputs] == ["SO"]


def test_a_batch_dependent_model_keeps_its_slots():
    inspection = Inspection(INPUTS, OUTPUTS, batch_dependent=True)
    spec = complete(spec_of("max_batch_size: 8 " + FULL), inspection)
    assert spec.batching.rows_max == spec.sequencing.slots == 8


@pytest.mark.parametrize(
    ("kind", "found", "place", "value"),
    [
        ("input", tensor("other", "INT32", -1, 1), "control_input 'START'", "no such tensor"),
        ("input", tensor("START", "FP32", -1, 1), "control_input 'START'", "FP32"),
        ("input", tensor("START", "INT32", -1, 2), "control_input 'START'", "[-1, 2]"),
        ("input", tensor("START", "INT32", -1), "control_input 'START'", "[-1]"),
        ("input", tensor("START", "INT32", 3, 1), "control_input 'START'", "[3, 1]"),
        ("input", tensor("SI", "INT32", -1, -1), "state 'SI'", "INT32"),
        ("input", tensor("SI", "FP32", -1), "state 'SI'", "[-1]"),
        ("output", tensor("SO", "FP64", -1, -1), "state 'SI'.output_name 'SO'", "FP64"),
        ("output", tensor("z", "FP32", -1, -1), "state 'SI'.output_name 'SO'", "no such tensor"),
    ],
)
def test_the_graph_must_have_what_is_filled_in(kind, found, place, value):
    graph = {"input": INPUTS, "output": OUTPUTS}
    name = {"other": "START", "z": "SO"}.get(found.name, found.name)
    graph[kind] = tuple(found if t.name == name else t for t in graph[kind])
    text = "max_batch_size: 8 " + FULL + 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]'
    inspection = Inspection(graph["input"], graph["output"])
    with pytest.raises(HostlerError) as e:
        complete(spec_of(text), inspection)
    assert e.value.code is Code.INVALID_ARGUMENT
    assert f"sequence_batching.{place}" in e.value.message
    assert value in e.value.message


def test_an_input_that_nobody_sends_is_still_missed():
    with pytest.raises(HostlerError, match="also needs 'SI'"):
        complete(
            spec_of("max_batch_size: 8 " + X + sequences(STARTED + ID)),
            Inspection(INPUTS, OUTPUTS),
        )


def test_warmups_may_say_what_controls_are():
    warm = 'model_warmup [ { name: "w" batch_size: 1 %s } ]'
    given = 'inputs { key: "%s" value { data_type: TYPE_%s dims: [ %d ] zero_data: true } } '
    both = warm % (given % ("x", "FP32", 4) + given % ("START", "INT32", 1))
    spec = spec_of("max_batch_size: 8 " + X + FULL + both)
    assert [i.name for i in spec.warmup[0].inputs] == ["START", "x"]
    with pytest.raises(HostlerError, match="lacks input 'x'"):
        spec_of("max_batch_size: 8 " + X + FULL + warm % (given % ("START", "INT32", 1)))


# -- files -----------------------------------------------------------------------------------


def read(folder, content, *, dims="2", word="FP32", **files):
    initial = (
        f"initial_state {{ data_type: TYPE_{word} dims: [ {dims} ] data_file: 'f' name: 'n' }}"
    )
    text = sequences((STATE % (dims, initial)).replace("TYPE_FP32", f"TYPE_{word}", 1))
    package = {"m/1/model.onnx": b"stub", "m/config.pbtxt": text}
    if content is not None:
        package["m/initial_state/f"] = content
    write_package(folder, package)
    return Repository([folder], Config()).read("m")


@pytest.mark.parametrize(
    ("content", "dims", "word", "kept"),
    [
        (bytes(range(8)), "2", "FP32", bytes(range(8))),
        (bytes(range(20)), "2", "FP32", bytes(range(8))),
        (b"\1\0\0\0a\0\0\0\0", "2", "STRING", b"\1\0\0\0a\0\0\0\0"),
    ],
)
def test_an_initial_state_is_read_with_the_package(tmp_path, content, dims, word, kept):
    package = read(tmp_path, content, dims=dims, word=word)
    assert package.error is None
    [spec] = package.versions
    assert spec.initial_states == {"SI": kept}
    assert derive(spec, spec.config, rows_known=True).sequencing.states[0].initial == kept


@pytest.mark.parametrize(
    ("content", "word", "value"),
    [
        (None, "FP32", "no file 'initial_state/f'"),
        (bytes(7), "FP32", "needs 8 bytes, but the file has only 7"),
        (b"\1\0\0\0a", "STRING", "malformed|cannot hold"),
    ],
)
def test_an_initial_state_that_does_not_fit_is_refused(tmp_path, content, word, value):
    package = read(tmp_path, content, word=word)
    assert package.error is not None
    with pytest.raises(HostlerError, match=value):
        raise package.error
    assert "sequence_batching.state 'SI'.initial_state.data_file" in package.error.message
