import gc

import numpy as np
import pytest

from hostler.worker.channel import Frame
from hostler.worker.errors import Failure
from hostler.worker.tensors import DTYPES, Inputs, Output, Writer, bytes_objects, bytes_wire


class FakeSlab:
    """As `channel.Slab`, over plain memory."""

    def __init__(self, size):
        self.memory = bytearray(size)

    def array(self, offset, size):
        return np.frombuffer(self.memory, np.uint8, size, offset)


def inputs(body=b"", slab=None, region=(0, 0), writable=False):
    return Inputs(Frame({"region": list(region)}, bytearray(body)), slab, writable)


@pytest.mark.parametrize("kind", [kind for kind in DTYPES if kind != "BYTES"])
def test_numbers_from_body_and_slab(kind):
    given = np.arange(6).astype(DTYPES[kind]).reshape(2, 3)
    slab = FakeSlab(4096)
    slab.memory[64 : 64 + given.nbytes] = given.tobytes()
    from_body = inputs(given.tobytes()).array(["a", kind, [2, 3], 0, 0, given.nbytes])
    from_slab = inputs(slab=slab, region=(64, 128)).array(["a", kind, [2, 3], 1, 64, given.nbytes])
    for found in (from_body, from_slab):
        np.testing.assert_array_equal(found, given)
        assert found.dtype == given.dtype
        assert not found.flags.writeable


def test_nothing_at_all():
    assert inputs().array(["a", "FP32", [0, 3], 0, 0, 0]).shape == (0, 3)
    assert inputs().array(["a", "BYTES", [0], 0, 0, 0]).shape == (0,)


def test_bytes_there_and_back():
    items = np.array([[b"", b"\x00\xff"], ["grüß", b"x" * 300]], object)
    wire, offsets = bytes_wire(items)
    back = bytes_objects(wire, (2, 2))
    assert back.tolist() == [[b"", b"\x00\xff"], ["grüß".encode(), b"x" * 300]]
    assert offsets.tolist() == [0, 4, 10, 20, 324]


def test_the_watch_tells_when_user_code_has_let_go():
    slab = FakeSlab(4096)
    given = inputs(slab=slab, region=(0, 64))
    watched = given.watch()
    kept = given.array(["a", "FP32", [4], 1, 0, 16])[1:]
    del given
    assert watched() is not None
    del kept
    gc.collect()
    assert watched() is None
    assert inputs().watch() is None


def described(slab, grant, outputs, inline_bytes_max=64):
    writer = Writer(slab, list(grant), inline_bytes_max)
    return writer.write(outputs), b"".join(map(bytes, writer.buffers)), writer


def test_small_outputs_travel_in_the_body_and_large_ones_in_the_grant():
    slab = FakeSlab(8192)
    small, large = np.arange(4, dtype="<f4"), np.arange(100, dtype="<f4")
    out, body, _ = described(
        slab, (4096, 1024), [Output("s", "FP32", small), Output("l", "FP32", large)]
    )
    assert out == [["s", "FP32", [4], 0, 0, 16], ["l", "FP32", [100], 1, 4096, 400]]
    assert body == small.tobytes()
    assert slab.memory[4096:4496] == large.tobytes()


def test_what_does_not_fit_the_grant_travels_in_the_body():
    slab = FakeSlab(8192)
    large = np.arange(100, dtype="<f4")
    out, body, writer = described(
        slab, (0, 512), [Output("a", "FP32", large), Output("b", "FP32", large[::-1])]
    )
    assert [d[3] for d in out] == [1, 0]
    assert body == large[::-1].tobytes()
    assert writer.bytes_total >= 800


def test_layout_and_zero_dimensions():
    transposed = np.arange(6, dtype="<i8").reshape(2, 3).T
    out, body, _ = described(
        None,
        (0, 0),
        [
            Output("t", "INT64", transposed),
            Output("z", "FP16", np.zeros((0, 2), "<f2")),
            Output("n", "BOOL", np.array(True)),
        ],
    )
    assert [d[2] for d in out] == [[3, 2], [0, 2], []]
    assert body[:48] == np.ascontiguousarray(transposed).tobytes()
    assert body[out[2][4]] == 1


def test_a_wrong_dtype_is_refused():
    with pytest.raises(Failure, match="'a' is not FP32"):
        described(None, (0, 0), [Output("a", "FP32", np.zeros(1))])
