"""What a package says of pictures, from a configuration to `Signature.image`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.core import DATATYPES, Code, HostlerError, ImageRule, Inspection, ModelSpec, TensorSpec
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository import complete
from hostler.repository.derive import normalise
from hostler.repository.platforms import PLATFORMS

OUTPUT = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ] '


def described(dims="3, 8, 6", datatype="FP32", layout=""):
    said = f"format: FORMAT_{layout}" if layout else ""
    return f'input [ {{ name: "x" data_type: TYPE_{datatype} dims: [ {dims} ] {said} }} ] ' + OUTPUT


def parameters(**said):
    return "".join(
        f'parameters {{ key: "image.{key}" value: {{ string_value: "{value}" }} }} '
        for key, value in said.items()
    )


def read(text, variables=None, runtime="onnx"):
    platform = next(p for p in PLATFORMS if p.runtime == runtime)
    parsed = to_json(parse_text("max_batch_size: 8 " + text, "config.pbtxt"))
    config = normalise(parsed, "m", platform, "model.onnx")
    spec = ModelSpec("m", 1, Path(), Path("model.onnx"), runtime, config=config,
                     variables=variables or {})  # fmt: skip
    signature = complete(spec, Inspection()).signature
    assert signature is not None
    return signature.image


def refusal(text, variables=None):
    with pytest.raises(HostlerError) as caught:
        read(text, variables)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_nothing_said_is_no_rule():
    assert read(described()) is None
    assert read(described("2, 5"), {"PATH": "x"}) is None


def test_all_that_can_be_said():
    said = parameters(
        scale="1/255", mean="0.485,0.456, 0.406", std="0.229, 0.224, 0.225", resize="crop",
        shorter_side="10", interpolation="Bicubic", channels="bgr", layout="NCHW", size="8x6",
    )  # fmt: skip
    assert read(described() + said) == ImageRule(
        layout="NCHW",
        height=8,
        width=6,
        resize="crop",
        shorter_side=10,
        interpolation="bicubic",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        channels="BGR",
    )
    padded = read(described("-1, -1, 3", "UINT8") + parameters(resize="pad", fill=114, size=32))
    assert padded == ImageRule(resize="pad", fill=114, height=32, width=32)
    assert read(described("48") + parameters(size="4X12")) == ImageRule(height=4, width=12)
    keras = read(described() + parameters(scale="1", mean="103.939,116.779,123.68"))
    assert keras == ImageRule(scale=1.0, mean=(103.939, 116.779, 123.68))


def test_tritons_format_is_the_layout():
    assert read(described(layout="NCHW")) == ImageRule(input="x", layout="NCHW")
    assert read(described("3, 4, 3", layout="NHWC")).layout == "NHWC"
    both = described(layout="NCHW") + parameters(layout="NHWC")
    assert "parameters.image.layout: is NHWC, but format of input 'x' is NCHW" in refusal(both)


def test_a_format_alone_asks_for_nothing():
    """Triton serves it, whatever the input is."""
    assert read(described("16, 8, 8", "INT8", layout="NCHW")).input == "x"


def test_variables_say_what_the_configuration_leaves_out():
    variables = {"HOSTLER_IMAGE_SCALE": "1", "HOSTLER_IMAGE_CHANNELS": "BGR", "OTHER": "1"}
    found = read(described() + parameters(scale="0.5"), variables)
    assert found == ImageRule(scale=0.5, channels="BGR")


def test_variables_are_for_the_models_that_take_pictures():
    """An archive may hold others, and all get the same."""
    assert read(described("5"), {"HOSTLER_IMAGE_STD": "0.5"}) == ImageRule(std=(0.5,))
    assert "variable HOSTLER_IMAGE_STD: is 'x'" in refusal(
        described("5"), {"HOSTLER_IMAGE_STD": "x"}
    )
    assert "parameters.image.std: no input takes a picture" in refusal(
        described("5") + parameters(std="0.5")
    )


def test_python_models_may_have_parameters_of_their_own():
    assert read(described("5") + parameters(quality="3"), runtime="python") is None
    assert "there are image.scale, image.mean" in refusal(described() + parameters(quality="3"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", ""), ("scale", "0"), ("scale", "nan"), ("scale", "1/0"), ("scale", "inf"),
        ("scale", "1/255/2"), ("mean", "0.5,0.5"), ("mean", "a"), ("mean", "1,2,3,4,5"),
        ("std", "0"), ("std", "0.5,-1,1"), ("resize", "fit"), ("shorter_side", "0"),
        ("shorter_side", "1.5"), ("fill", "256"), ("fill", "-1"), ("interpolation", "lanczos"),
        ("channels", "GBR"), ("layout", "CHW"), ("size", "8x"), ("size", "8x6x3"),
        ("size", "99999"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_read(name, value):
    message = refusal(described() + parameters(**{name: value}))
    assert message.startswith(f"model 'm': parameters.image.{name}: is '{value}'; ")


@pytest.mark.parametrize(
    ("config", "said", "words"),
    [
        (described(datatype="UINT8"), {"scale": "1"}, "image.scale: is '1'; input 'x' is UINT8"),
        (described(datatype="UINT8"), {"mean": "0.5"}, "image.mean: is '0.5'; input 'x' is UINT8"),
        (described("1, 8, 6"), {"std": "0.2,0.2,0.2"}, "has 1 channels; name as many, or one"),
        (described(), {"mean": "103.9,116.8,123.7"}, "set image.scale to 1"),
        (described(), {"std": "58"}, "set image.scale to 1"),
        (described(), {"shorter_side": "10"}, "only where image.resize is crop"),
        (described(), {"shorter_side": "7", "resize": "crop"}, "must be 8 or more"),
        (described("3, -1, -1"), {"shorter_side": "7", "resize": "crop"}, "set image.size"),
        (described(), {"fill": "7"}, "only where image.resize is pad"),
        (described("8, 6"), {"channels": "BGR"}, "one channel, grey"),
        (described(), {"size": "6x8"}, "image.size: no input takes a picture of 6 rows"),
        (described(datatype="INT8"), {"size": "8x6"}, "no input takes a picture"),
        (described("3, 8, 3"), {"resize": "pad"}, "could be read for 'x' as NCHW, 'x' as NHWC"),
    ],
)
def test_what_cannot_be_meant(config, said, words):
    assert words in refusal(config + parameters(**said))


def test_a_rule_of_what_the_model_itself_tells():
    platform = PLATFORMS[0]
    text = parameters(mean="0.5", resize="crop")
    config = normalise(to_json(parse_text(text, "config.pbtxt")), "m", platform, "model.onnx")
    spec = ModelSpec("m", 1, Path(), Path("model.onnx"), "onnx", config=config)
    picture = TensorSpec("picture", DATATYPES["FP32"], (1, 3, 224, 224))
    scores = TensorSpec("scores", DATATYPES["FP32"], (1, 1000))
    signature = complete(spec, Inspection((picture,), (scores,))).signature
    assert signature.image == ImageRule(mean=(0.5,), resize="crop")
