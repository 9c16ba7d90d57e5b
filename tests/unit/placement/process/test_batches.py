import os

import numpy as np
import pytest
from fakes.workers import python_spec, request

from hostler.core import (
    DATATYPES,
    BytesArray,
    Code,
    HostlerError,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.placement.process.arena import Arena
from hostler.placement.process.batches import (
    COPY_CHUNK_BYTES,
    Form,
    OutputEstimate,
    pack,
    split_rows,
    unpack,
)


@pytest.fixture
def arena():
    return Arena(1 << 20, 1 << 24)


def form(tmp_path, *, stacked=False, dims=(-1,)):
    output = TensorSpec("O0", DATATYPES["FP32"], dims)
    spec = python_spec(tmp_path, signature=Signature((output,), (output,)))
    return Form(spec, stacked=stacked, inline_bytes_max=1024)


def packed_of(requests, arena, form_):
    packed = pack(requests, 1, form_, arena)
    if packed.mapping is not None:
        os.close(packed.mapping[0])
    return packed


def floats(count, value=1.0):
    return request(np.full(count, value, np.float32))


def test_small_batches_travel_in_the_frame(tmp_path, arena):
    packed = packed_of([floats(3, 1.0), floats(5, 2.0)], arena, form(tmp_path))
    assert (packed.region, packed.copies) == (None, [])
    first, second = (r["inputs"][0] for r in packed.header["requests"])
    assert first == ["I0", "FP32", [3], 0, 0, 12]
    assert second == ["I0", "FP32", [5], 0, 16, 20]
    body = b"".join(bytes(part) for part in packed.body)
    assert body[16:36] == np.full(5, 2.0, np.float32).tobytes()


def test_large_batches_travel_in_the_arena_aligned_and_apart(tmp_path, arena):
    packed = packed_of([floats(301, 1.0), floats(500, 2.0)], arena, form(tmp_path))
    packed.copy()
    first, second = (r["inputs"][0] for r in packed.header["requests"])
    assert (first[3], second[3]) == (1, 1)
    assert second[4] % 64 == 0
    assert second[4] >= first[4] + first[5]
    found = packed.region.array(second[4], second[5]).view(np.float32)
    assert (found == 2.0).all()


def test_stacked_batches_are_joined_straight_into_the_arena(tmp_path, arena):
    requests = [request(np.full((n, 300), n, np.float32)) for n in (1, 3, 2)]
    packed = packed_of(requests, arena, form(tmp_path, stacked=True))
    (described,) = packed.header["requests"]
    (tensor,) = described["inputs"]
    assert tensor[2] == [6, 300]
    packed.copy()
    found = packed.region.array(tensor[4], tensor[5]).view(np.float32).reshape(6, 300)
    assert found[:, 0].tolist() == [1, 3, 3, 3, 2, 2]


def test_stacked_bytes_and_empty_tensors(tmp_path, arena):
    kind = DATATYPES["BYTES"]
    requests = [
        request(Tensor("I0", kind, (len(items),), BytesArray.from_items(items)))
        for items in ([b"a", b"bc"], [], [b""])
    ]
    packed = packed_of(requests, arena, form(tmp_path, stacked=True))
    assert packed.header["requests"][0]["inputs"][0][2] == [3]
    assert b"".join(bytes(p) for p in packed.body) == b"\1\0\0\0a\2\0\0\0bc\0\0\0\0"


def test_copies_in_chunks_equal_the_copy_at_once(tmp_path):
    arena = Arena(1 << 24, 1 << 24)
    generator = np.random.default_rng(1)
    requests = [request(generator.random((n, 1000), np.float32)) for n in (300, 5, 400)]
    packed = packed_of(requests, arena, form(tmp_path, stacked=True))
    chunks = packed.chunks()
    assert max(len(source) for _, source in chunks) <= COPY_CHUNK_BYTES
    for target, source in chunks:
        np.copyto(target, source)
    in_chunks = packed.region.array(packed.region.offset, packed.copy_bytes).copy()
    packed.copy()
    at_once = packed.region.array(packed.region.offset, packed.copy_bytes)
    np.testing.assert_array_equal(in_chunks, at_once)


def test_space_for_outputs_is_known_or_learnt(tmp_path):
    fixed = OutputEstimate(
        python_spec(
            tmp_path,
            signature=Signature((), (TensorSpec("O0", DATATYPES["FP64"], (10, 10)),)),
        )
    )
    assert fixed.want(4, 1) >= 3200
    learning = OutputEstimate(python_spec(tmp_path))
    assert learning.want(4, 1) == 0
    learning.saw(2, 2000)
    assert learning.want(4, 1) >= 4000
    for _ in range(200):
        learning.saw(2, 2)
    assert learning.want(4, 1) < 200


def result(outputs, **more):
    return {"results": [{"outputs": outputs, "parameters": {}, **more}]}


def test_bytes_outputs_bring_their_offsets():
    wire = BytesArray.from_items([b"a", b"", b"xyz"])
    offsets = wire.offsets.tobytes()
    body = memoryview(bytes(wire.wire()) + offsets)
    described = ["O0", "BYTES", [3], 0, 0, wire.nbytes, [0, wire.nbytes, len(offsets)]]
    # int64 offsets need no alignment in a frame for numpy to read them
    (answer,) = unpack(result([described]), body, None, in_place=True)
    assert answer.outputs[0].data.items() == [b"a", b"", b"xyz"]


@pytest.mark.parametrize("offsets", [[0, 5], [0, 5, 9, 15], [0, 9, 5, 16], [1, 5, 9, 16]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    wire = BytesArray.from_items([b"a", b"", b"xyz"])
    raw = np.array(offsets, np.int64).tobytes()
    described = ["O0", "BYTES", [3], 0, 0, wire.nbytes, [0, wire.nbytes, len(raw)]]
    with pytest.raises(ValueError, match="offsets of BYTES output 'O0'"):
        unpack(result([described]), memoryview(bytes(wire.wire()) + raw), None, in_place=True)


def test_a_result_outside_the_granted_space_is_refused(arena):
    region, mapping = arena.allocate(4096)
    os.close(mapping[0])
    for offset, granted in ((4096, region), (0, None)):
        with pytest.raises(ValueError, match="a result lies"):
            unpack(result([["O0", "UINT8", [9], 1, offset, 9]]), memoryview(b""), granted,
                   in_place=True)  # fmt: skip


def test_results_in_place_hold_the_region_and_copies_do_not(arena):
    for in_place, used in ((True, 4096), (False, 0)):
        region, mapping = arena.allocate(4096)
        if mapping:
            os.close(mapping[0])
        region.array(region.offset, 9)[:] = 3
        (answer,) = unpack(result([["O0", "UINT8", [9], 1, region.offset, 9]]),
                           memoryview(b""), region, in_place=in_place)  # fmt: skip
        region.release()
        assert arena.used_bytes == used
        assert answer.outputs[0].data.tolist() == [3] * 9
        del answer
        assert arena.used_bytes == 0


def joined(rows):
    kind = DATATYPES["FP32"]
    tensors = [
        Tensor(name, kind, (rows, 1), np.arange(rows, dtype=np.float32)[:, None] + base)
        for name, base in (("A", 0), ("B", 100))
    ]
    return InferResponse(tensors)


def rows_request(rows, outputs=None):
    asked = request(np.zeros((rows, 1), np.float32), outputs=outputs)
    asked.rows = rows
    return asked


def test_rows_go_to_whom_they_belong_with_the_outputs_he_wants():
    requests = [rows_request(1), rows_request(2, ["B"]), rows_request(1, ["B", "A"])]
    answers = split_rows(joined(4), requests, "m")
    found = [[(t.name, t.data.ravel().tolist()) for t in a.outputs] for a in answers]
    assert found == [
        [("A", [0]), ("B", [100])],
        [("B", [101, 102])],
        [("B", [103]), ("A", [3])],
    ]


def test_a_joined_run_with_other_rows_fails_all():
    answers = split_rows(joined(3), [rows_request(1), rows_request(1)], "m")
    assert all(isinstance(a, HostlerError) and a.code is Code.MODEL_ERROR for a in answers)
    assert "batch of 2 rows" in answers[0].message


def test_an_output_that_is_missing_fails_who_wants_it():
    good, bad = split_rows(joined(2), [rows_request(1), rows_request(1, ["Z"])], "m")
    assert isinstance(good, InferResponse)
    assert "no output 'Z'" in bad.message


def error_of(told):
    (error,) = unpack({"results": [{"error": told}]}, memoryview(b""), None, in_place=True)
    return error


def test_an_error_may_name_the_status_that_a_handler_answers_with():
    error = error_of(["MODEL_ERROR", "no", {"status": 415}])
    assert (error.code, error.message) == (Code.MODEL_ERROR, "no")
    assert error.details == {"status": 415}
    assert error_of(["NOT_FOUND", "as ever"]).details == {}


@pytest.mark.parametrize("status", [200, 399, 600, "415", None, 415.0])
def test_a_status_that_is_none_of_an_error_is_refused(status):
    with pytest.raises(ValueError, match="an error of status"):
        error_of(["MODEL_ERROR", "no", {"status": status}])
