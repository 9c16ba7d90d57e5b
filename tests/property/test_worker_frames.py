import contextlib

from hypothesis import given
from hypothesis import strategies as st

from hostler.placement.process.frames import BadFrame, FrameDecoder, encode

HEADERS = st.dictionaries(
    st.text(max_size=8), st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=50), st.none())
)
FRAMES = st.lists(st.tuples(HEADERS, st.binary(max_size=400)), max_size=6)


def feed(decoder, data, cuts):
    frames, position = [], 0
    for cut in [*sorted(cuts), len(data)]:
        while position < min(cut, len(data)):
            free = decoder.free()
            count = min(len(free), min(cut, len(data)) - position)
            free[:count] = data[position : position + count]
            frames += decoder.received(count)
            position += count
    return frames


@given(FRAMES, st.lists(st.integers(0, 3000), max_size=8))
def test_what_was_sent_arrives_however_it_is_cut(sent, cuts):
    data = b"".join(encode(header, [body]) for header, body in sent)
    frames = feed(FrameDecoder(1 << 16), data, cuts)
    assert [(f.header, bytes(f.body)) for f in frames] == sent


@given(FRAMES, st.integers(0, 3000), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_raise_nothing_but_bad_frame(sent, position, damage):
    data = bytearray(b"".join(encode(header, [body]) for header, body in sent))
    data[position : position + len(damage)] = damage
    with contextlib.suppress(BadFrame):
        feed(FrameDecoder(1 << 16), bytes(data), [])
