"""Requests of different shapes in one batch: what the model sees and what each caller gets."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from fakes.shapes import Answers, StackingReplica, a_request, batch_of, shaped_spec

from hostler.core import (
    DATATYPES,
    Batching,
    BatchInput,
    Code,
    HostlerError,
    InferResponse,
    PaddedInput,
    Shaping,
    Stats,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.scheduler import Config, Scheduler
from hostler.scheduler.shaping import Shaper, batch_input

FP32, INT32, BYTES = DATATYPES["FP32"], DATATYPES["INT32"], DATATYPES["BYTES"]
X, Y = TensorSpec("x", FP32, (-1,)), TensorSpec("y", FP32, (-1,))
PADDED = Shaping(padded=(PaddedInput("x", (4, 8), 9.0),), cut={"y": "x"})
RAGGED = Shaping(
    ragged=frozenset("x"),
    batch_inputs=(BatchInput("BATCH_ACCUMULATED_ELEMENT_COUNT", ("index",), INT32, "x"),),
    scattered={"y": "x"},
)


def run(shaping, compute, *requests, inputs=(X,), outputs=(Y,), batched=True):
    shaper = Shaper(shaped_spec(shaping, inputs, outputs, batched=batched), shaping)
    replica, answers = StackingReplica(compute), Answers(len(requests))
    shaper.run(replica, batch_of(*requests), answers)
    return replica, answers


def double(feeds):
    return {"y": feeds["x"] * 2}


# -- padding -----------------------------------------------------------------------------------


def test_inputs_grow_to_the_bucket_that_holds_the_longest_and_outputs_shrink_back():
    requests = [a_request(x=[[1, 2, 3, 4, 5]]), a_request(2, x=[[6], [7]])]
    replica, answers = run(PADDED, double, *requests)
    (seen,) = replica.seen
    nine = 9.0
    assert seen["x"].tolist() == [
        [1, 2, 3, 4, 5, nine, nine, nine],
        [6, nine, nine, nine, nine, nine, nine, nine],
        [7, nine, nine, nine, nine, nine, nine, nine],
    ]
    first, second = answers.arrays()
    assert first["y"].tolist() == [[2, 4, 6, 8, 10]]
    assert second["y"].tolist() == [[12], [14]]
    assert all(array.flags.c_contiguous for array in (first["y"], second["y"]))


@pytest.mark.parametrize(
    ("buckets", "lengths", "seen"),
    [
        ((), (3,), 3),
        ((), (3, 5), 5),
        ((4, 8), (3,), 4),
        ((4, 8), (4,), 4),
        ((4, 8), (4, 5), 8),
        ((4, 8), (9, 5), 9),
    ],
)
def test_how_long_a_padded_dimension_becomes(buckets, lengths, seen):
    shaping = Shaping(padded=(PaddedInput("x", buckets),), cut={"y": "x"})
    requests = [a_request(x=np.ones((1, n), np.float32)) for n in lengths]
    replica, answers = run(shaping, double, *requests)
    assert replica.seen[0]["x"].shape == (len(lengths), seen)
    assert [found["y"].shape for found in answers.arrays()] == [(1, n) for n in lengths]


def test_each_variable_dimension_grows_for_itself_and_fixed_ones_stay():
    grid = TensorSpec("x", FP32, (-1, 2, -1))
    out = TensorSpec("y", FP32, (2, -1, -1))
    shaping = Shaping(padded=(PaddedInput("x"),), cut={"y": "x"})
    requests = [
        a_request(x=np.ones((1, 3, 2, 1), np.float32)),
        a_request(x=np.ones((1, 1, 2, 4), np.float32)),
    ]
    replica, answers = run(
        shaping,
        lambda feeds: {"y": feeds["x"].swapaxes(1, 2)},
        *requests,
        inputs=(grid,),
        outputs=(out,),
    )
    assert replica.seen[0]["x"].shape == (2, 3, 2, 4)
    assert [found["y"].shape for found in answers.arrays()] == [(1, 2, 3, 1), (1, 2, 1, 4)]


def test_byte_strings_are_padded_too():
    shaping = Shaping(padded=(PaddedInput("x", (), b"-"),), cut={"y": "x"})
    requests = [
        a_request(x=np.array([[b"a"]], object)),
        a_request(x=np.array([[b"b", b"cc"]], object)),
    ]
    replica, answers = run(
        shaping,
        lambda feeds: {"y": feeds["x"]},
        *requests,
        inputs=(TensorSpec("x", BYTES, (-1,)),),
        outputs=(TensorSpec("y", BYTES, (-1,)),),
    )
    assert replica.seen[0]["x"].tolist() == [[b"a", b"-"], [b"b", b"cc"]]
    assert [found["y"].tolist() for found in answers.arrays()] == [[[b"a"]], [[b"b", b"cc"]]]


def test_an_unbatched_model_gets_buckets_too():
    replica, answers = run(PADDED, double, a_request(x=[1, 2, 3]), batched=False)
    assert replica.seen[0]["x"].tolist() == [1, 2, 3, 9]
    assert answers.arrays()[0]["y"].tolist() == [2, 4, 6]


def test_an_optional_input_that_is_not_there_is_not_padded():
    given = (TensorSpec("x", FP32, (-1,), optional=True), TensorSpec("z", FP32, (2,)))
    replica, answers = run(
        PADDED, lambda feeds: {"y": feeds["z"]}, a_request(z=[[1, 2]]), inputs=given
    )
    assert list(replica.seen[0]) == ["z"]
    assert answers.arrays()[0]["y"].tolist() == [[1, 2]]


def test_an_output_that_does_not_follow_its_input_is_an_error_with_or_without_neighbours():
    for lengths in ((4,), (2, 3)):
        requests = [a_request(x=np.ones((1, n), np.float32)) for n in lengths]
        _, answers = run(PADDED, lambda feeds: {"y": feeds["x"][:, :1]}, *requests)
        for (error,) in answers.results:
            assert isinstance(error, HostlerError)
            assert error.code is Code.MODEL_ERROR
            assert "padding.output.y" in error.message


def test_after_a_response_that_cannot_be_cut_a_stream_has_ended():
    class Decoupled:
        name = "m:1/0"

        def run(self, batch, sink):
            for width in (4, 5, 4):
                tensor = Tensor.from_numpy("y", np.ones((1, width), np.float32), FP32)
                sink.send(0, InferResponse([tensor]), False, lambda: taken.append(1))
            sink.send(0, None, True)

    taken = []
    shaper = Shaper(shaped_spec(PADDED, (X,), (Y,)), PADDED)
    answers = Answers(1)
    asked = a_request(x=[[1, 2]])
    shaper.run(Decoupled(), batch_of(asked), answers)
    first, error = answers.results[0]
    assert asked.context.cancelled  # the model need not go on
    assert first.outputs[0].shape == (1, 2)
    assert error.code is Code.MODEL_ERROR
    assert len(taken) == 3


def test_padding_out_of_proportion_is_not_joined_and_alone_is_refused():
    shaping = Shaping(padded=(PaddedInput("x"),), cut={"y": "x"})
    shaper = Shaper(shaped_spec(shaping, (X,), (Y,)), shaping)
    long = a_request(x=np.zeros((1, 4 << 20), np.float32))  # 16 MiB
    short = [a_request(x=[[1.0]]) for _ in range(8)]
    assert shaper.joinable([short[0], long, *short]) == 4
    assert shaper.joinable([long] * 8) == 8, "long ones beside long ones waste nothing"
    assert shaper.joinable(short) == 8
    wide = Shaping(padded=(PaddedInput("x", (1 << 24,)),))
    _, answers = run(wide, double, a_request(2, x=[[1.0], [2.0]]))
    ((error,),) = answers.results
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "64 MiB" in error.message


# -- ragged ------------------------------------------------------------------------------------


def test_ragged_inputs_come_end_to_end_and_the_model_is_told_where_each_ends():
    requests = [a_request(x=[[1, 2, 3]]), a_request(2, x=[[4], [5]]), a_request(x=[[]])]
    replica, answers = run(RAGGED, lambda feeds: {"y": feeds["x"] * 2}, *requests)
    (seen,) = replica.seen
    assert seen["x"].tolist() == [1, 2, 3, 4, 5]
    assert seen["index"].tolist() == [3, 5, 5]
    assert seen["index"].dtype == np.int32
    assert [found["y"].tolist() for found in answers.arrays()] == [[[2, 4, 6]], [[8], [10]], [[]]]


def test_other_inputs_are_stacked_and_other_outputs_split_by_rows():
    shaping = Shaping(ragged=frozenset("x"), scattered={"y": "x"})
    given = (X, TensorSpec("z", FP32, (2,)))
    out = (Y, TensorSpec("sum", FP32, (2,)), TensorSpec("flat", FP32, (-1,)))
    requests = [
        a_request(1, ["sum"], x=[[1]], z=[[1, 2]]),
        a_request(2, ["y", "sum"], x=[[2, 3], [4, 5]], z=[[3, 4], [5, 6]]),
    ]
    replica, answers = run(
        shaping,
        lambda feeds: {"y": feeds["x"], "sum": feeds["z"] * 10},
        *requests,
        inputs=given,
        outputs=out,
    )
    assert replica.seen[0]["z"].tolist() == [[1, 2], [3, 4], [5, 6]]
    first, second = answers.arrays()
    assert {name: array.tolist() for name, array in first.items()} == {"sum": [[10, 20]]}
    assert list(second) == ["y", "sum"]
    assert second["y"].tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("BATCH_ELEMENT_COUNT", [2, 8]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [2, 10]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 2, 10]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [0] * 8),
        ("BATCH_ITEM_SHAPE", [[1, 2], [2, 2], [2, 2]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [1, 2, 2, 2, 2, 2]),
    ],
)
@pytest.mark.parametrize("datatype", ["INT32", "FP32"])
def test_what_the_model_is_told_of_the_shapes_in_a_batch(kind, values, datatype):
    rule = BatchInput(kind, ("index",), DATATYPES[datatype], "x")
    array = batch_input(rule, [(1, 1, 2), (2, 2, 2)])
    assert array.tolist() == values
    assert array.dtype == DATATYPES[datatype].numpy


def test_more_elements_than_an_int32_counts_are_refused():
    rule = BatchInput("BATCH_ELEMENT_COUNT", ("index",), INT32, "x")
    with pytest.raises(HostlerError, match=str(2**31 - 1)):
        batch_input(rule, [(1, 2**31)])


@pytest.mark.parametrize(
    ("compute", "outputs", "words"),
    [
        (lambda feeds: {"y": feeds["x"][1:]}, (Y,), "has 2 elements; 3 were expected"),
        (lambda feeds: {"z": feeds["x"]}, (TensorSpec("z", FP32, (-1,)),), "batch_output"),
        (lambda feeds: {"z": np.float32([0])[0]}, (TensorSpec("z", FP32, ()),), "batch_output"),
    ],
)
def test_an_output_that_does_not_belong_to_the_batch_is_an_error(compute, outputs, words):
    def whole(feeds):
        return {name: np.asarray(array) for name, array in compute(feeds).items()}

    _, answers = run(RAGGED, whole, a_request(x=[[1, 2, 3]]), outputs=outputs)
    ((error,),) = answers.results
    assert error.code is Code.MODEL_ERROR
    assert words in error.message


def test_of_several_joined_requests_the_model_cannot_say_which_was_bad():
    class Refusing:
        name = "m:1/0"

        def run(self, batch, sink):
            sink.send(0, HostlerError(Code.INVALID_ARGUMENT, "bad"))

    shaper = Shaper(shaped_spec(RAGGED, (X,), (Y,)), RAGGED)
    for count, code in ((1, Code.INVALID_ARGUMENT), (2, Code.MODEL_ERROR)):
        answers = Answers(count)
        shaper.run(Refusing(), batch_of(*[a_request(x=[[1]])] * count), answers)
        assert [error.code for (error,) in answers.results] == [code] * count


def test_padded_and_ragged_inputs_of_one_model():
    given = (X, TensorSpec("z", FP32, (-1,)))
    out = (Y, TensorSpec("w", FP32, (-1,)))
    shaping = Shaping(
        padded=(PaddedInput("z"),),
        cut={"w": "z"},
        ragged=frozenset("x"),
        batch_inputs=(BatchInput("BATCH_ITEM_SHAPE", ("lengths",), INT32, "z"),),
        scattered={"y": "x"},
    )
    requests = [a_request(x=[[1, 2]], z=[[1]]), a_request(x=[[3]], z=[[2, 3]])]
    replica, answers = run(
        shaping, lambda f: {"y": f["x"], "w": f["z"]}, *requests, inputs=given, outputs=out
    )
    assert replica.seen[0]["z"].tolist() == [[1, 0], [2, 3]]
    assert replica.seen[0]["lengths"].tolist() == [[1], [2]], "lengths before padding"
    assert [{n: a.tolist() for n, a in found.items()} for found in answers.arrays()] == [
        {"y": [[1, 2]], "w": [[1]]},
        {"y": [[3]], "w": [[2, 3]]},
    ]


# -- in the scheduler --------------------------------------------------------------------------


async def test_the_scheduler_shapes_its_batches_and_puts_back_what_would_waste_memory():
    shaping = Shaping(padded=(PaddedInput("x"),), cut={"y": "x"})
    spec = shaped_spec(shaping, (X,), (Y,))
    spec = replace(spec, batching=Batching(rows_max=64, tuned=False, preferred=(64,)))
    scheduler = Scheduler(spec, Stats(), SystemClock(), Config())
    replica = StackingReplica(double)
    scheduler.replica_ready(replica)
    lengths = [1, 4 << 20, 1, 1, 2, 3]
    futures = [scheduler.submit(a_request(x=np.full((1, n), n, np.float32))) for n in lengths]
    responses = await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert [response.outputs[0].shape for response in responses] == [(1, n) for n in lengths]
    assert [response.outputs[0].numpy()[0, 0] for response in responses] == [2 * n for n in lengths]
    assert [len(seen["x"]) for seen in replica.seen] == [4, 1, 1]
    assert scheduler.stats.queue_depth == 0
    assert scheduler.pending == 0
