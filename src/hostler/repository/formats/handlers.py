"""Archives of SageMaker's framework containers: a model file and, mostly, a script of handlers.

    model.joblib                  whatever the script's model_fn loads
    code/inference.py             model_fn, input_fn, predict_fn, output_fn or transform_fn
    code/requirements.txt         installed, together with the framework, for its workers

Source: sagemaker-inference-toolkit and the toolkits of PyTorch, scikit-learn and XGBoost that are
built on it. Unlike there, a scikit-learn or XGBoost model needs no script.
"""

from __future__ import annotations

import fnmatch
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hostler.core import ModelSpec
from hostler.repository.formats.opaque import opaque_spec
from hostler.repository.packaged_python import REQUIREMENTS
from hostler.repository.reading import Reading

__all__ = ["PYTORCH", "RUNTIME", "SKLEARN", "XGBOOST", "Toolkit", "requirements_of", "script_of"]

RUNTIME: Final = "handler"

_PROGRAM: Final = "SAGEMAKER_PROGRAM"
_SUBMIT: Final = "SAGEMAKER_SUBMIT_DIRECTORY"
_MODEL_ROOT: Final = "/opt/ml/model"
"""Where a SageMaker container has what is the archive's folder here."""
_DEFAULT_PROGRAM: Final = "inference.py"
_LISTED_MAX: Final = 10
_NO_MODELS: Final = (".py", ".txt", ".md", ".yaml", ".yml", ".sh")


@dataclass(frozen=True, slots=True)
class Toolkit:
    """One framework. `names`: of model files at the archive's top, as globs, the first wins.

    `many`: several files are one model. `any_file`: for lack of these, all files at the top are
    its model. `distributions`: pip's names, see `core.Environment.beside`.
    """

    name: str
    names: tuple[str, ...]
    distributions: tuple[tuple[str, ...], ...]
    many: bool = False
    any_file: bool = False

    @property
    def looked_for(self) -> str:
        """In words."""
        return f"code/{_DEFAULT_PROGRAM}, or {', '.join(self.names)} at the top"

    def detect(self, reading: Reading) -> bool:
        """Whether its model files are there."""
        return bool(self._named(reading))

    def read(self, reading: Reading) -> ModelSpec:
        """One opaque model. Raises: INVALID_ARGUMENT naming what is missing."""
        script = script_of(reading)
        models = self._named(reading) or (_top(reading) if self.any_file else [])
        if not script and not models:
            raise reading.wrong(
                f"nothing in the archive to read as {self.name}; looked for {self.looked_for}; it "
                f"holds {reading.listed()}"
            )
        if not script and len(models) > 1 and not self.many:
            raise reading.wrong(
                f"the archive holds {len(models)} model files, "
                f"{', '.join(models[:_LISTED_MAX])}; keep one, or bring code/{_DEFAULT_PROGRAM} "
                "with a model_fn"
            )
        spec = opaque_spec(
            reading,
            RUNTIME,
            reading.folder / (script or models[0]),
            options={"toolkit": self.name, "script": script, "models": "\n".join(models)},
            streams=True,
            requirements=requirements_of(reading, script),
        )
        if spec.environment is None:
            return spec
        return replace(spec, environment=replace(spec.environment, beside=self.distributions))

    def _named(self, reading: Reading) -> list[str]:
        top = _top(reading)
        for pattern in self.names:
            found = fnmatch.filter(top, pattern)
            if found:
                return found
        return []


PYTORCH: Final = Toolkit("pytorch", ("model.pt", "model.pth", "*.pt", "*.pth"), (("torch",),))
SKLEARN: Final = Toolkit(
    "sklearn",
    ("model.joblib", "model.pkl", "*.joblib", "*.pkl"),
    (("scikit-learn",), ("joblib",)),
)
XGBOOST: Final = Toolkit(
    "xgboost",
    ("xgboost-model*", "*.ubj", "*.xgb", "*.bst"),
    (("xgboost", "xgboost-cpu"),),
    many=True,
    any_file=True,
)


def script_of(reading: Reading) -> str:
    """The script with the handlers, relative to the archive; "" where there is none.

    Raises: INVALID_ARGUMENT where the container's environment names one that is not there.
    """
    stated = reading.variable(_PROGRAM)
    program = stated or _DEFAULT_PROGRAM
    if not program.endswith(".py"):
        program += ".py"
    folders = dict.fromkeys((*_submitted(reading), "code", ""))
    for folder in folders:
        path = posixpath.normpath(posixpath.join(folder, program))
        # Only what the walk has seen is run, so no name leads out of the archive.
        if path in reading.paths:
            return path
    if not stated:
        return ""
    where = " or ".join(f"'{folder or '.'}'" for folder in folders)
    submitted = reading.variable(_SUBMIT)
    beside = (
        f"; {_SUBMIT} is '{submitted}', which is not fetched: put its files into the archive's code"
        if "://" in submitted and not submitted.startswith("file:")
        else ""
    )
    raise reading.wrong(
        f"{_PROGRAM} is '{stated}', and the archive has no such file in {where}{beside}"
    )


def _submitted(reading: Reading) -> list[str]:
    """The folder that SAGEMAKER_SUBMIT_DIRECTORY names, where it is one of the archive's."""
    stated = reading.variable(_SUBMIT).removeprefix("file://").rstrip("/")
    if stated == _MODEL_ROOT:
        return [""]
    if stated.startswith(f"{_MODEL_ROOT}/"):
        return [stated[len(_MODEL_ROOT) + 1 :]]
    return [] if not stated or stated.startswith("/") or "://" in stated else [stated]


def requirements_of(reading: Reading, script: str) -> Path | None:
    """The requirements.txt beside the script, else the one in `code`."""
    for folder in dict.fromkeys((posixpath.dirname(script), "code")):
        path = posixpath.join(folder, REQUIREMENTS)
        if path in reading.paths:
            return reading.folder / path
    return None


def _top(reading: Reading) -> list[str]:
    """Files that may be a model, by name."""
    return sorted(
        path for path in reading.paths if "/" not in path and not path.endswith(_NO_MODELS)
    )
