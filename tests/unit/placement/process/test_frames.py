import pytest

from hostler.placement.process.frames import BadFrame, FrameDecoder, encode
from hostler.worker import channel

GOLDEN = b"HSTR" + b"\x10\0\0\0" + b"\x03\0\0\0\0\0\0\0" + b'{"op":"stop"}   ' + b"abc"


def feed(decoder, data):
    frames = []
    while data:
        free = decoder.free()
        count = min(len(free), len(data))
        free[:count] = data[:count]
        frames += decoder.received(count)
        data = data[count:]
    return frames


def test_golden_bytes_of_both_ends():
    assert encode({"op": "stop"}, [b"abc"]) == GOLDEN
    assert channel.encode({"op": "stop"}, 3) + b"abc" == GOLDEN


def test_body_begins_at_a_multiple_of_sixteen():
    for length in range(40):
        head = encode({"k": "x" * length})
        assert len(head) % 16 == 0


def test_decodes_one_byte_at_a_time():
    decoder = FrameDecoder(1 << 20)
    frames = [frame for byte in GOLDEN for frame in feed(decoder, bytes([byte]))]
    assert [(f.header, bytes(f.body)) for f in frames] == [({"op": "stop"}, b"abc")]


def test_many_frames_in_one_read_and_a_frame_larger_than_the_staging_buffer():
    large = bytes(range(256)) * 4096
    decoder = FrameDecoder(4 << 20)
    frames = feed(decoder, GOLDEN * 3 + encode({"n": 1}, [large]) + GOLDEN)
    assert [len(f.body) for f in frames] == [3, 3, 3, len(large), 3]
    assert bytes(frames[3].body) == large
    assert bytes(frames[0].body) == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"HSTR" + b"\xff\xff\xff\xff" + b"\0" * 8,
        b"HSTR" + b"\0\0\0\0" + b"\xff" * 8,
        b"HSTR" + b"\x10\0\0\0" + b"\0" * 8 + b"not json at all ",
        b"HSTR" + b"\x10\0\0\0" + b"\0" * 8 + b"[1,2]           ",
    ],
)
def test_refuses_what_is_no_frame(data):
    with pytest.raises(BadFrame):
        feed(FrameDecoder(1 << 20), data)
