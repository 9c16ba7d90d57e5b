"""What DJL's Python models import as `djl_python`: requests, answers, their codings.

Own code with the names and behaviour of the public interface.
Source: djl-serving `engines/python/setup/djl_python`.
"""

from __future__ import annotations

import importlib
import sys

from .inputs import Input
from .outputs import Output
from .pair_list import PairList

__all__ = ["Input", "Output", "PairList", "install"]

PACKAGE = "djl_python"
MODULES = ("inputs", "outputs", "pair_list", "np_util", "encode_decode")


def install() -> None:
    """Have this package found as `djl_python` by whatever is imported from now on."""
    sys.modules[PACKAGE] = sys.modules[__name__]
    for name in MODULES:
        module = importlib.import_module("." + name, __name__)
        sys.modules["{}.{}".format(PACKAGE, name)] = module
