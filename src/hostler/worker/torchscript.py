"""TorchScript files, before anything reads them."""

from __future__ import annotations

import os
import zipfile

from .errors import Failure

__all__ = ["check_script_archive"]


def check_script_archive(file: str, model: str) -> None:
    """Refuse what is not TorchScript before anything reads it: a pickle may run any code."""
    script = False
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        script = any(name.endswith("/constants.pkl") for name in names)
    if not script:
        raise Failure(
            "INVALID_ARGUMENT",
            "model '{}': {} is not TorchScript (a pickled module or state_dict is never "
            "loaded); save it with torch.jit.save, or with torch.export.save as "
            "model.pt2".format(model, os.path.basename(file)),
        )
