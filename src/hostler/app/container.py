"""`hostler serve --container sagemaker`: what the platform asks of a container."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hostler.config import Settings
from hostler.core import Code, HostlerError
from hostler.gateway import HttpGateway
from hostler.repository import Config, Container, Package, read_container
from hostler.serving import Serving

__all__ = ["ContainerModels", "as_container"]

_DRAIN_S: Final = 25.0
"""Source: developer guide: the platform sends SIGTERM, and SIGKILL 30 s later."""


def as_container(
    settings: Settings, variables: Mapping[str, str], told: Collection[str] = ()
) -> Settings:
    """The settings of a container: what the platform expects, where nothing else is set.

    `variables`: those of the platform. `told`: names of the settings that somebody has set, be it
    to their defaults. Raises: INVALID_ARGUMENT for a port that is none.
    """
    port = variables.get("SAGEMAKER_BIND_TO_PORT", "8080")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise HostlerError(
            Code.INVALID_ARGUMENT, f"SAGEMAKER_BIND_TO_PORT is '{port[:32]}', but must be a port"
        )
    wanted: dict[str, dict[str, Any]] = {
        # In so many words: the platform stands before the container and asks who it is.
        "gateway": {"host": "0.0.0.0", "port": int(port), "allow_unauthenticated_remote": True},  # noqa: S104
        # Who waits for memory is told so at once: the platform then unloads others.
        "serving": {"drain_timeout_s": _DRAIN_S, "room_wait_s": 0.0},
    }
    rooms = {
        room: msgspec.structs.replace(
            getattr(settings, room),
            **{name: value for name, value in fields.items() if f"{room}.{name}" not in told},
        )
        for room, fields in wanted.items()
    }
    rooms["gateway"] = msgspec.structs.replace(rooms["gateway"], grpc=False)
    return msgspec.structs.replace(settings, **rooms)


class ContainerModels:
    """The model, or the models, of a container; mounted before the gateway starts."""

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        gateway: HttpGateway,
        variables: Mapping[str, str],
    ) -> None:
        self._config: Config = settings.repository
        self._variables = dict(variables)
        root = Path(settings.gateway.container_dir)
        self._folder = root / "model"
        self._many = variables.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"
        models_root = root / "models" if self._many else None
        self._container = gateway.mount_container(serving, self._read, models_root)

    async def start(self) -> None:
        """Load the one model, or wait for the platform to name some. Raises: HostlerError."""
        if not self._many and not self._folder.is_dir():
            raise HostlerError(
                Code.NOT_FOUND,
                f"'{self._folder}' is not there; the platform unpacks model.tar.gz into it "
                "(gateway.container_dir), or sets SAGEMAKER_MULTI_MODEL=true",
            )
        await self._container.open(self._folder)

    def stop(self) -> None:
        """Let go of the models, before serving stops."""
        self._container.close()

    def _read(self, name: str, folder: Path) -> Sequence[Package]:
        stamp = folder.stat()
        token = f"{folder}:{stamp.st_mtime_ns}:{stamp.st_ino}"
        container = Container(environment=self._variables)
        return read_container(name, folder, token, container, 1, self._config).packages
