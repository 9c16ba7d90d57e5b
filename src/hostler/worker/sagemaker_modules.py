"""Modules of SageMaker's containers that scripts import, where they are not installed.

    from sagemaker_inference import content_types, decoder, encoder, errors
    from sagemaker_containers.beta.framework import content_types, encoders, worker
    from sagemaker_xgboost_container import encoder

Their functions are the ones that we use ourselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from . import handler_codec as codec

__all__ = ["UnsupportedFormatError", "install_modules"]


class Response:
    """Source: `worker.Response` of sagemaker-containers, which is one of Flask's."""

    def __init__(
        self, response: Any = b"", accept: str = "", status: int = 200, mimetype: str = ""
    ) -> None:
        self.response = response
        self.status_code = status
        self.mimetype = mimetype or accept

    def get_data(self) -> Any:
        """The body."""
        return self.response


class BaseInferenceToolkitError(Exception):
    """Source: errors.py of sagemaker-inference-toolkit; the status goes to the caller."""

    def __init__(self, status_code: int, message: str, phrase: str = "") -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase or message


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """As its base, with a message of its own."""

    def __init__(
        self, status_code: int, message: str = "Invalid Request", phrase: str = ""
    ) -> None:
        super().__init__(status_code, message, phrase)


class UnsupportedFormatError(Exception):
    """A content type, or an accept, that a handler does not know."""

    status_code = 415

    def __init__(self, content_type: str) -> None:
        super().__init__("content type {} is not supported by this handler".format(content_type))


def _decode(body: Any, content_type: str) -> Any:
    return codec.decode(body, content_type)


def _encode(prediction: Any, content_type: str) -> Any:
    body, kind = codec.encode(prediction, content_type)
    return body.decode() if kind in codec.TEXTS else body


def _matrix(content_type: str) -> Any:
    def read(body: Any, dtype: Any = None) -> Any:
        toolkit = importlib.import_module(".toolkits.xgboost", __package__)
        return toolkit.matrix_of(body, content_type)

    return read


def _decode_matrix(body: Any, content_type: str) -> Any:
    return _matrix(content_type)(body)


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    module.__dict__.update(members)
    return module


def install_modules() -> None:
    """Make what is not installed importable."""
    types = _module(
        "content_types",
        JSON=codec.JSON,
        CSV=codec.CSV,
        NPY=codec.NPY,
        NPZ=codec.NPZ,
        OCTET_STREAM="application/octet-stream",
        ANY=codec.ANY,
        UTF8_TYPES=sorted(codec.TEXTS),
    )
    decoder = _module("decoder", decode=_decode)
    encoder = _module("encoder", encode=_encode, SUPPORTED_CONTENT_TYPES=set(codec.WRITERS))
    encoders = _module("encoders", encode=_encode, decode=_decode)
    matrices = _module(
        "encoder",
        decode=_decode_matrix,
        csv_to_dmatrix=_matrix(codec.CSV),
        libsvm_to_dmatrix=_matrix("text/libsvm"),
    )
    errors = _module(
        "errors",
        BaseInferenceToolkitError=BaseInferenceToolkitError,
        GenericInferenceToolkitError=GenericInferenceToolkitError,
        UnsupportedFormatError=UnsupportedFormatError,
    )
    worker = _module("worker", Response=Response)
    framework = {"content_types": types, "encoders": encoders, "worker": worker}
    _install(
        "sagemaker_inference", content_types=types, decoder=decoder, encoder=encoder, errors=errors
    )
    beta = _module("beta")
    if _install("sagemaker_containers", beta=beta):
        _put("sagemaker_containers.beta.framework", framework)
        beta.__dict__["framework"] = sys.modules["sagemaker_containers.beta.framework"]
    _install("sagemaker_xgboost_container", encoder=matrices)


def _install(name: str, **members: ModuleType) -> bool:
    """Put a package where there is none; false where it is installed."""
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    _put(name, members)
    return True


def _put(name: str, members: dict[str, ModuleType]) -> None:
    sys.modules[name] = _module(name, **members)
    for short, module in members.items():
        sys.modules["{}.{}".format(name, short)] = module
