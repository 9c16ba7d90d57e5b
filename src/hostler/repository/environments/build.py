"""Building one environment: the commands, in order, and what to say when one of them fails."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hostler.core import Code, HostlerError
from hostler.repository.archives import Limits
from hostler.repository.config import Config
from hostler.repository.environments.pip_output import failed_requirement, last_errors, step_of
from hostler.repository.environments.recipe import NUMPY, Recipe
from hostler.repository.environments.steps import Outcome, run_step
from hostler.repository.environments.store import PYTHON
from hostler.repository.package import readable

__all__ = ["Builder", "Found"]

_UNPACK: Final = Path(__file__).with_name("unpack.py")
_PYTHON_MIN: Final = (3, 8)
"""What the worker is written for."""

# Understood by any Python from 3.4 on, so that an old one can say so.
_PROBE: Final = """
import json, sys
found = {"version": list(sys.version_info[:3]), "numpy": None, "error": ""}
try:
    import numpy
    found["numpy"] = numpy.__version__
except Exception as error:
    found["error"] = "%s: %s" % (type(error).__name__, error)
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What an interpreter says of itself. `numpy`: its version, or None and why not in `error`."""

    version: tuple[int, ...]
    numpy: str | None
    error: str

    @property
    def words(self) -> str:
        """As in "3.11.7"."""
        return ".".join(map(str, self.version))


def own_python(config: Config) -> str:
    """The Python that virtual environments are made with."""
    stated = os.path.expanduser(config.environment_python)
    return os.path.abspath(stated) if stated else sys.executable


class Builder:
    """Runs the steps for one environment.

    `model`: named in messages. `variables`: what of the process's own environment the commands
    get. `say`: takes the step that it is at.
    """

    def __init__(
        self,
        model: str,
        config: Config,
        variables: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._model = model
        self._config = config
        self._variables = variables
        self._say = say

    async def build(self, recipe: Recipe, folder: Path) -> Found:
        """Build into this empty folder. Raises: INVALID_ARGUMENT, UNAVAILABLE; OSError."""
        if recipe.requirements is None:
            return await self._unpack(recipe.source, folder)
        return await self._install(recipe, folder)

    async def probe(self, python: Path, place: str) -> Found:
        """What an interpreter has, found by running it.

        Raises: INVALID_ARGUMENT if it cannot serve a worker, numpy left aside.
        """
        outcome = await self._run([str(python), "-I", "-c", _PROBE], python.parent.parent, python)
        try:
            said: dict[str, Any] = json.loads(outcome.lines[-1])
            found = Found(tuple(said["version"]), said["numpy"], str(said["error"]))
        except (IndexError, ValueError, KeyError, TypeError):
            raise self._failure(place, f"'{python}' does not run", outcome.lines) from None
        if found.version < _PYTHON_MIN:
            raise self._failure(place, f"its Python is {found.words}; workers need 3.8 or later")
        return found

    def without_numpy(self, place: str, found: Found) -> HostlerError:
        """The error for a packed environment that a worker cannot start in."""
        return self._failure(
            place,
            f"its Python cannot import numpy, which workers need ({found.error}); install numpy "
            "in it and pack it again",
        )

    # -- requirements ----------------------------------------------------------------------

    async def _install(self, recipe: Recipe, folder: Path) -> Found:
        place, requirements = str(recipe.source), recipe.requirements
        assert requirements is not None
        self._say("creating a virtual environment")
        own = own_python(self._config)
        outcome = await self._run([own, "-I", "-m", "venv", str(folder)], folder, Path(own))
        if outcome.code:
            raise self._failure(
                place,
                f"`{own} -m venv` failed; on Debian install python3-venv, or set "
                "repository.environment_python to a Python that has venv and pip",
                outcome.lines,
            )
        texts = {
            "requirements": [line.text for line in requirements.lines],
            "constraints": [line.text for line in requirements.constraints],
            "options": [line.text for line in requirements.options],
        }
        for name, lines in texts.items():
            (folder / f"hostler-{name}.txt").write_text(
                "".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape"
            )
        await self._pip(recipe, folder, ["-r", str(folder / "hostler-requirements.txt")])
        found = await self.probe(folder / PYTHON, place)
        if found.numpy is None:
            self._say("installing numpy")
            await self._pip(recipe, folder, [NUMPY, "-r", str(folder / "hostler-options.txt")])
            found = await self.probe(folder / PYTHON, place)
        if found.numpy is None:
            raise self._failure(
                place, f"the numpy that was installed cannot be imported ({found.error})"
            )
        return found

    async def _pip(self, recipe: Recipe, folder: Path, what: Sequence[str]) -> None:
        python = folder / PYTHON
        # -I: a package's own modules must not be taken for pip's, since it runs among them.
        command = [str(python), "-I", "-u", "-m", "pip", "install", "--no-input", "--no-color"]
        command += ["--disable-pip-version-check", "--progress-bar", "off", "--no-user"]
        command += [*self._config.pip_arguments]
        command += ["-c", str(folder / "hostler-constraints.txt"), *what]
        outcome = await self._run(command, recipe.source.parent, python, self._hear_pip)
        if not outcome.code:
            return
        failed = failed_requirement(outcome.lines)
        which = f"requirement '{failed}' could not be installed" if failed else "pip failed"
        if outcome.code < 0:
            which += f" (pip was killed by signal {-outcome.code})"
        raise self._failure(
            str(recipe.source),
            f"{which}; pip says: {last_errors(outcome.lines)}. Mend the file; where pip is to "
            "look is set by pip's own configuration or repository.pip_arguments",
        )

    def _hear_pip(self, line: str) -> None:
        step = step_of(line)
        if step is not None:
            self._say(f"installing requirements: {step}")

    # -- packed ----------------------------------------------------------------------------

    async def _unpack(self, archive: Path, folder: Path) -> Found:
        place = str(archive)
        self._say(f"unpacking {archive.name}")
        limits = Limits(
            files_max=self._config.environment_files_max,
            bytes_max=self._config.environment_bytes_max,
            files_setting="repository.environment_files_max",
            bytes_setting="repository.environment_bytes_max",
            set_id=True,
        )._asdict()
        command = [sys.executable, "-I", str(_UNPACK), place, str(folder), json.dumps(limits)]
        outcome = await self._run(command, folder, None, self._say)
        if outcome.code:
            said = outcome.lines[-1] if outcome.lines else f"exit code {outcome.code}"
            raise self._failure(
                place,
                f"cannot be unpacked: {said}. An archive as conda-pack makes it is expected",
            )
        python = folder / PYTHON
        if not os.access(python, os.X_OK):
            raise self._failure(place, self.no_python("it"))
        unpack = folder / "bin" / "conda-unpack"
        if unpack.is_file():
            self._say("running conda-unpack")
            outcome = await self._run([str(python), "-s", "-E", str(unpack)], folder, python)
            if outcome.code:
                raise self._failure(place, "its own conda-unpack failed", outcome.lines)
        found = await self.probe(python, place)
        if found.numpy is None:
            raise self.without_numpy(place, found)
        return found

    @staticmethod
    def no_python(what: str) -> str:
        """What is wrong with an environment that has no interpreter."""
        return (
            f"{what} holds no executable {PYTHON}; pack a whole environment, with its bin folder "
            "at the top"
        )

    # -- both ------------------------------------------------------------------------------

    async def _run(
        self,
        command: Sequence[str],
        folder: Path,
        python: Path | None,
        hear: Callable[[str], None] = lambda _: None,
    ) -> Outcome:
        beside = [str(python.parent)] if python is not None else []
        path = os.pathsep.join([*beside, "/usr/local/bin", "/usr/bin", "/bin"])
        variables = {**self._variables, "PATH": path, "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1"}
        return await run_step(command, folder, variables, hear)

    def _failure(self, place: str, text: str, lines: Sequence[str] = ()) -> HostlerError:
        said = f"; it said: {last_errors(lines)}" if lines else ""
        message = f"model '{self._model}': environment of '{place}': {text}{said}"
        return HostlerError(Code.INVALID_ARGUMENT, readable(message))
