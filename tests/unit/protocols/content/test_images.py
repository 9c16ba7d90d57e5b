"""Pictures as bodies: what a model gets of them, and what is refused."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostler.core import (
    DATATYPES,
    Allowance,
    BytesArray,
    Code,
    HostlerError,
    ImageRule,
    InferResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.protocols.content import Coder, Form, coder_for, image_plan, images, is_slow

PHOTOGRAPHS = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"
CHINA = (PHOTOGRAPHS / "china.jpg").read_bytes()  # 640 x 427


def photograph(width=60, height=40):
    return Image.open(io.BytesIO(CHINA)).resize((width, height))


def written(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def signature(*dims, datatype="UINT8", batched=True, **rule):
    spec = TensorSpec("x", DATATYPES[datatype], dims)
    image = ImageRule(**rule) if rule else None
    return Signature((spec,), (), batched=batched, image=image)


def read(body, *dims, **options):
    tensor = Coder(signature(*dims, **options)).decode(body, Form.IMAGE).inputs["x"]
    assert tensor.numpy().shape == tensor.shape
    assert tensor.numpy().flags.c_contiguous
    assert not tensor.numpy().flags.writeable
    return tensor.numpy()


def refused(body, *dims, **options):
    with pytest.raises(HostlerError) as caught:
        read(body, *dims, **options)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert len(caught.value.message) < 700
    return caught.value.message


# -- which input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "batched", "rule", "shape"),
    [
        ((3, 4, 6), True, {}, (1, 3, 4, 6)),
        ((5, 6, 3), True, {}, (1, 5, 6, 3)),
        ((3, 4, 6), False, {}, (3, 4, 6)),
        ((1, 3, 4, 6), False, {}, (1, 3, 4, 6)),
        ((-1, 5, 6, 3), False, {}, (1, 5, 6, 3)),
        ((4, -1, -1), True, {}, (1, 4, 40, 60)),
        ((-1, -1, 3), True, {"height": 4, "width": 6}, (1, 4, 6, 3)),
        ((1, 4, 6), False, {}, (1, 4, 6)),
        ((4, 6), True, {}, (1, 4, 6)),
        ((-1, -1), True, {"layout": "NCHW"}, (1, 40, 60)),
        ((24,), True, {"height": 4, "width": 6}, (1, 24)),
        ((72,), False, {"height": 4, "width": 6}, (72,)),
        ((3, 4, 3), True, {"layout": "NHWC"}, (1, 3, 4, 3)),
    ],
)
def test_shapes_that_take_pictures(dims, batched, rule, shape):
    assert read(written(photograph()), *dims, batched=batched, **rule).shape == shape


@pytest.mark.parametrize(
    ("dims", "datatype", "rule", "words"),
    [
        ((4,), "FP32", {}, "image.size"),
        ((-1, -1), "FP32", {}, "no input takes a picture"),
        ((2, 4, 6), "FP32", {}, "no input takes a picture"),
        ((3, 4, 6), "INT8", {}, "'x' INT8"),
        ((3, 4, 6), "BF16", {}, "UINT8"),
        ((3, 4, 6), "FP32", {"height": 8, "width": 8}, "8 rows and 8 columns"),
        ((3, 4, 6), "FP32", {"layout": "NHWC"}, "a picture NHWC"),
        ((3, 4, 3), "FP32", {}, "as NCHW, 'x' as NHWC"),
        ((25,), "FP32", {"height": 4, "width": 6}, "4 rows and 6 columns"),
    ],
)
def test_shapes_that_take_none(dims, datatype, rule, words):
    assert words in refused(written(photograph()), *dims, datatype=datatype, **rule)


def test_one_of_several_inputs():
    picture = TensorSpec("picture", DATATYPES["FP32"], (3, 4, 6))
    other = TensorSpec("other", DATATYPES["FP32"], (2,), optional=True)
    assert image_plan(Signature((other, picture), ())).spec is picture
    needed = TensorSpec("other", DATATYPES["FP32"], (2,))
    with pytest.raises(HostlerError, match="beside input 'picture' the model needs 'other'"):
        image_plan(Signature((needed, picture), ()))
    second = TensorSpec("second", DATATYPES["FP32"], (3, 4, 6), optional=True)
    with pytest.raises(HostlerError, match="could be read for 'picture' as NCHW, 'second' as NCHW"):
        image_plan(Signature((picture, second), ()))
    told = Signature((picture, second), (), image=ImageRule(input="picture"))
    assert image_plan(told).spec is picture


def test_a_model_that_reads_pictures_itself_gets_the_file():
    body = written(photograph(), "JPEG")
    model = Signature((TensorSpec("x", DATATYPES["BYTES"], (1,)),), (), batched=True)
    tensor = Coder(model).decode(body, Form.IMAGE).inputs["x"]
    assert tensor.data.items() == [body]


# -- which pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_pixels_of_every_kind_are_what_pillow_says(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    body = written(photograph(), kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
    np.testing.assert_array_equal(read(body, -1, -1, 3)[0], expected)
    np.testing.assert_array_equal(read(memoryview(body), 3, 40, 60)[0], expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("mode", "channels", "seen"),
    [
        ("L", 3, "RGB"), ("1", 3, "RGB"), ("P", 3, "RGB"), ("LA", 3, "RGB"), ("RGBA", 3, "RGB"),
        ("RGB", 1, "L"), ("RGBA", 1, "L"), ("RGB", 4, "RGBA"), ("LA", 4, "RGBA"),
    ],
)  # fmt: skip
def test_colours_become_the_models(mode, channels, seen):
    image = photograph().convert("RGB").convert(mode)
    expected = np.asarray(image.convert(seen)).reshape(40, 60, channels)
    np.testing.assert_array_equal(read(written(image), -1, -1, channels)[0], expected)


def test_a_transparent_palette_warns_nobody():
    image = photograph().convert("P")
    body = written(image, transparency=bytes(range(256)))
    np.testing.assert_array_equal(read(body, -1, -1, 3)[0], np.asarray(image.convert("RGB")))
    alpha = read(body, -1, -1, 4)[0, :, :, 3]
    np.testing.assert_array_equal(alpha, np.asarray(image))


def test_print_colours_of_jpeg():
    body = written(photograph().convert("CMYK"), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
    np.testing.assert_array_equal(read(body, -1, -1, 3)[0], expected)
    assert read(body, -1, -1, 1).shape == (1, 40, 60, 1)


def test_sixteen_bits_of_grey_are_scaled_rather_than_cut_off():
    deep = np.array([[0, 255, 256], [511, 32768, 65535]], np.uint16)
    body = written(Image.fromarray(deep))
    np.testing.assert_array_equal(read(body, -1, -1, 1)[0, :, :, 0], deep >> 8)
    assert read(body, -1, -1, 3)[0, 1].tolist() == [[1] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_are_turned_upright(orientation, kind):
    upright = np.asarray(photograph(), np.int64)
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    lying = photograph() if undo is None else photograph().transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = written(lying, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    found = read(body, -1, -1, 3)[0]
    assert found.shape == upright.shape
    assert np.abs(found - upright).mean() < (8 if kind == "JPEG" else 0.1)
    assert read(body, 20, 30, 3).shape == (1, 20, 30, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File Read")
def test_exif_that_cannot_be_read_is_no_reason():
    body = written(photograph(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read(body, -1, -1, 3).shape == (1, 40, 60, 3)


def test_only_the_first_frame_is_taken():
    frames = [photograph(), Image.new("RGB", (60, 40))]
    body = written(frames[0], "PNG", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(body, -1, -1, 3)[0], np.asarray(frames[0]))


# -- which size ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpolation", "filter_"),
    [
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("nearest", Image.Resampling.NEAREST),
        ("area", Image.Resampling.BOX),
    ],
)
def test_stretched(interpolation, filter_):
    expected = np.asarray(photograph().resize((24, 30), filter_))
    found = read(written(photograph()), 30, 24, 3, interpolation=interpolation)[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("size", "shorter"), [((60, 40), 0), ((40, 60), 0), ((61, 40), 28),
                                               ((24, 24), 32), ((40, 61), 28)])  # fmt: skip
def test_cropped(size, shorter):
    """As torchvision's Resize and CenterCrop have it, but for the outermost pixels."""
    image = photograph(*size)
    wanted = shorter or 24
    scaled = tuple(wanted * side // min(size) for side in size)
    left, top = round((scaled[0] - 24) / 2), round((scaled[1] - 24) / 2)
    expected = image.resize(scaled, Image.Resampling.BILINEAR).crop(
        (left, top, left + 24, top + 24)
    )
    found = read(written(image), 24, 24, 3, resize="crop", shorter_side=shorter)[0]
    difference = np.abs(found.astype(int) - np.asarray(expected).astype(int))
    assert difference[2:-2, 2:-2].max() <= 1
    assert difference.mean() < 1


def test_cropped_to_an_oblong():
    found = read(written(photograph(60, 40)), 10, 40, 3, resize="crop")
    expected = photograph(60, 40).resize((40, 26), Image.Resampling.BILINEAR).crop((0, 8, 40, 18))
    assert np.abs(found[0].astype(int) - np.asarray(expected).astype(int))[2:-2].max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_padded(channels):
    found = read(written(photograph(60, 40)), 30, 30, channels, resize="pad", fill=114)[0]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    inner = photograph(60, 40).convert(mode).resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found[5:25], np.asarray(inner).reshape(20, 30, channels))
    edge = found[[0, 4, 25, 29]]
    assert (edge[..., :3] == 114).all()
    assert channels != 4 or (edge[..., 3] == 255).all()


def test_a_large_photograph_is_decoded_smaller_and_looks_the_same():
    expected = Image.open(io.BytesIO(CHINA)).resize((64, 64), Image.Resampling.BILINEAR)
    found = read(CHINA, 64, 64, 3)[0].astype(int)
    assert 0 < np.abs(found - np.asarray(expected)).mean() < 3
    exact = read(CHINA, 64, 64, 3, interpolation="nearest")[0]
    nearest = Image.open(io.BytesIO(CHINA)).resize((64, 64), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(exact, np.asarray(nearest))


# -- which numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("datatype", "tolerance"),
                         [("FP16", 2e-3), ("FP32", 1e-6), ("FP64", 1e-14)])  # fmt: skip
@pytest.mark.parametrize("dims", [(3, -1, -1), (-1, -1, 3)])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_scaled(datatype, tolerance, dims, order):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = np.asarray(photograph(), np.float64) / 255
    if order == "BGR":
        pixels = pixels[:, :, ::-1]
    expected = (pixels - mean) / std
    found = read(
        written(photograph()), *dims, datatype=datatype, mean=mean, std=std, channels=order
    )
    assert found.dtype == DATATYPES[datatype].numpy
    if dims[0] == 3:
        expected = expected.transpose(2, 0, 1)
    np.testing.assert_allclose(found[0], expected, rtol=tolerance, atol=tolerance)


def test_floats_are_of_0_to_1_unless_told():
    white = written(Image.new("RGB", (8, 8), "white"))
    assert (read(white, 3, 8, 8, datatype="FP32") == 1).all()
    whole = read(white, 3, 8, 8, datatype="FP32", scale=1.0, mean=(103.939, 116.779, 123.68))
    np.testing.assert_allclose(whole[0, :, 0, 0], [151.061, 138.221, 131.32], rtol=1e-6)


def test_alpha_stays_the_last_channel():
    red = written(Image.new("RGBA", (2, 2), (200, 100, 50, 25)))
    assert read(red, 4, 2, 2, channels="BGR")[0, :, 0, 0].tolist() == [50, 100, 200, 25]


# -- what is refused -----------------------------------------------------------------------------


def png_of(width, height):
    """A file that says that it is so large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 64)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
              for c in (head, data)]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "body",
    [b"", b"\0" * 100, b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff\xd8\xff\xe0",
     b"BM" + b"\0" * 60, b"RIFF\0\0\0\0WEBPVP8 "],
    ids=["empty", "zeros", "gif", "svg", "jpeg", "bmp", "webp"],
)  # fmt: skip
def test_what_is_no_picture(body):
    text = refused(body, 3, 4, 6)
    assert "no picture that can be read; send JPEG, PNG, WebP, BMP or GIF" in text


def test_formats_that_are_not_named_are_not_opened():
    assert "no picture that can be read" in refused(written(photograph(), "TIFF"), 3, 4, 6)
    assert "no picture that can be read" in refused(written(photograph(), "PPM"), 3, 4, 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_picture_that_is_cut_short(kind):
    body = written(photograph(), kind)
    text = refused(body[: len(body) // 2], 3, 4, 6)
    assert f"the {kind} of 60 x 40 pixels is cut short or broken" in text


@pytest.mark.parametrize(
    ("size", "dims", "words"),
    [
        ((2**31 - 1, 2**31 - 1), (3, 4, 6), "more than 67108864 pixels"),
        ((10_000, 10_000), (3, 4, 6), "pixels; send a smaller one"),
        ((10_000, 8_000), (3, 4, 6), "10000 x 8000 pixels; at most 67108864"),
        ((8_000, 8_000), (3, -1, -1), "a tensor of 768000000 bytes for input 'x'"),
        ((1, 60_000_000), (3, 4, 600), "1 x 60000000 pixels is too high"),
    ],
)
def test_few_bytes_do_not_become_many(size, dims, words):
    assert words in refused(png_of(*size), *dims, datatype="FP32")


def test_without_pillow_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    images._pillow.cache_clear()
    try:
        with pytest.raises(HostlerError, match=r"pip install 'hostler\[images\]'") as caught:
            read(b"", 3, 4, 6)
        assert caught.value.code is Code.UNIMPLEMENTED
    finally:
        images._pillow.cache_clear()


# -- the whole -----------------------------------------------------------------------------------


def test_many_threads_may_decode():
    assert is_slow(Form.IMAGE)
    assert not any(is_slow(form) for form in Form if form is not Form.IMAGE)
    model = signature(3, 32, 32, datatype="FP32")
    expected = read(CHINA, 3, 32, 32, datatype="FP32")
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: coder_for(model).decode(CHINA, Form.IMAGE).inputs["x"], range(16))
        )
    assert all(np.array_equal(tensor.numpy(), expected) for tensor in found)


def test_answers():
    model = signature(3, 4, 6)
    scores = np.array([[0.25, 0.75]], np.float32)
    label = Tensor("label", DATATYPES["BYTES"], (1, 1), BytesArray.from_items([b"temple"]))
    answer = InferResponse([Tensor("y", DATATYPES["FP32"], scores.shape, scores)])
    both = InferResponse([*answer.outputs, label])
    encode = Coder(model).encode
    assert encode(answer, Form.IMAGE) == (b'{"predictions":[[0.25,0.75]]}', "application/json")
    assert encode(both, Form.IMAGE, "application/jsonlines") == (
        b'{"y":[0.25,0.75],"label":["temple"]}\n',
        "application/jsonlines",
    )
    assert encode(both, Form.IMAGE, "text/csv") == (b"0.25,0.75,temple\n", "text/csv")


def test_few_large_pictures_are_decoded_at_a_time(monkeypatch):
    inside, most, never = [], [], threading.Event()
    load = images._load

    def slowly(image, size):
        inside.append(image)
        most.append(len(inside))
        never.wait(0.02)
        load(image, size)
        inside.remove(image)

    monkeypatch.setattr(images, "_load", slowly)
    monkeypatch.setattr(images, "_room", Allowance(2 * 60 * 40))
    body = written(photograph())
    with ThreadPoolExecutor(6) as threads:
        assert len(list(threads.map(lambda _: read(body, 3, 4, 6), range(6)))) == 6
    assert max(most) == 2
    # One that is larger than all room goes alone.
    monkeypatch.setattr(images, "_room", Allowance(1))
    assert read(body, 3, 4, 6).shape == (1, 3, 4, 6)
