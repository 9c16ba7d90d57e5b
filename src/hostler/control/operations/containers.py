"""Container definitions: what of them cannot be meant, or cannot be served here. Pure.

Accepted, shown again and without effect: ImageConfig, ContainerMetricsConfig, ModelAccessConfig,
MultiModelConfig (archives are always kept while they fit). Refused is what would silently give
another model or other answers than it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hostler.control.operations.desk import refused
from hostler.control.records import Document
from hostler.core import HostlerError

__all__ = ["check_containers", "containers_of"]

_NONE: Final[Mapping[str, Any]] = {}

_UNSERVED: Final[Mapping[str, str]] = {
    "ModelPackageName": "there is no model registry; give ModelDataUrl",
    "InferenceSpecificationName": "there is no model registry; give ModelDataUrl",
    "AdditionalModelDataSources": "only one source of model data is served; put all into it",
}
_UNSERVED_SOURCE: Final[Mapping[str, str]] = {
    "HubAccessConfig": "there is no hub; give S3Uri",
    "ManifestS3Uri": "manifests are not served; S3Uri with S3DataType S3Prefix takes a folder",
    "ETag": "it is not compared with the object; leave it out",
    "ManifestEtag": "manifests are not served",
}


def containers_of(model: Document) -> list[Document]:
    """The containers of a model, as CreateModel gave them."""
    primary = model.get("PrimaryContainer")
    return list(model.get("Containers") or ()) or ([primary] if primary is not None else [])


def check_containers(request: Document, check_url: Callable[[str], None]) -> None:
    """Refuse what CreateModel's members cannot mean together. Raises: INVALID_ARGUMENT.

    `check_url`: see `Desk`.
    """
    primary, several = request.get("PrimaryContainer"), request.get("Containers")
    if primary is not None and several:
        raise refused("PrimaryContainer and Containers cannot both be given.")
    containers = containers_of(request)
    if not containers:
        raise refused("Either PrimaryContainer or Containers must be given.")
    _check_hostnames(request, containers)
    for index, container in enumerate(containers, 1):
        place = f"Containers.{index}" if several else "PrimaryContainer"
        _check_container(container, place)
        _check_url(container, place, check_url)


def _check_hostnames(request: Document, containers: list[Document]) -> None:
    hostnames = [str(c["ContainerHostname"]) for c in containers if c.get("ContainerHostname")]
    twice = next((name for name in hostnames if hostnames.count(name) > 1), None)
    if twice is not None:
        raise refused(f"ContainerHostname '{twice}' is given to more than one container.")
    execution = request.get("InferenceExecutionConfig")
    if execution is None:
        return
    if not request.get("Containers"):
        raise refused("InferenceExecutionConfig needs Containers.")
    if execution["Mode"] == "Direct" and len(hostnames) < len(containers):
        raise refused(
            "InferenceExecutionConfig.Mode Direct needs a ContainerHostname for each container: "
            "requests name the one that answers by it."
        )


def _check_container(container: Document, place: str) -> None:
    for member, instead in _UNSERVED.items():
        if container.get(member):
            raise _unserved(f"{place}.{member}", instead)
    url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
    if url and source:
        raise refused(f"{place}: ModelDataUrl and ModelDataSource cannot both be given.")
    if source:
        _check_source(source.get("S3DataSource") or _NONE, f"{place}.ModelDataSource.S3DataSource")
    multiple = container.get("Mode") == "MultiModel"
    if multiple and not url:
        raise refused(f"{place}: Mode MultiModel needs ModelDataUrl, the prefix of the archives.")
    if not (url or source):
        image = container.get("Image", "")
        raise refused(
            f"{place}: neither ModelDataUrl nor ModelDataSource is given. Images ('{image}') are "
            "not run here, they only say how an archive is read; give the model's archive."
        )
    if container.get("MultiModelConfig") and not multiple:
        raise refused(f"{place}: MultiModelConfig is only for Mode MultiModel.")


def _check_url(container: Document, place: str, check_url: Callable[[str], None]) -> None:
    url, place = container.get("ModelDataUrl"), f"{place}.ModelDataUrl"
    if not url:
        source = container["ModelDataSource"]["S3DataSource"]
        url, place = source["S3Uri"], place.replace("ModelDataUrl", "ModelDataSource.S3DataSource")
    try:
        check_url(url)
    except HostlerError as error:
        raise refused(f"{place}: {error.message}") from None


def _check_source(source: Mapping[str, Any], place: str) -> None:
    if not source:
        raise refused(f"{place} must be given.")
    for member, instead in _UNSERVED_SOURCE.items():
        if source.get(member):
            raise _unserved(f"{place}.{member}", instead)
    prefix, gzip = source["S3DataType"] == "S3Prefix", source["CompressionType"] == "Gzip"
    if prefix and gzip:
        raise refused(
            f"{place}: CompressionType Gzip is for one archive; use S3DataType S3Object, or "
            "CompressionType None for the files below a prefix."
        )
    if prefix and not source["S3Uri"].endswith("/"):
        raise refused(f"{place}.S3Uri '{source['S3Uri']}' is a prefix: it must end with '/'.")


def _unserved(place: str, instead: str) -> HostlerError:
    return refused(f"{place} is not served by hostler: {instead}.")
