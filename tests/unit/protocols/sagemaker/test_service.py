"""botocore's descriptions of the services that are served."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from hostler.control.operations import SERVICES
from hostler.core import Code, HostlerError
from hostler.protocols.sagemaker import Operation, Service, load_service
from hostler.protocols.sagemaker.patterns import compiled
from hostler.protocols.sagemaker.shapes import ListOf, MapOf, Node, Number, Structure, Text

OPERATIONS = [(prefix, name) for prefix, served in SERVICES.items() for name in served.rows]


def service(prefix: str) -> Service:
    served = SERVICES[prefix]
    return load_service(served.name, frozenset(served.rows))


def described(prefix: str) -> ServiceModel:
    name = SERVICES[prefix].name
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def walk(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """Every node of a shape; none of those served contains itself."""
    assert path.count(".") < 20, path
    yield path, node
    match node:
        case Structure():
            for name, member in node.members.items():
                yield from walk(member, f"{path}.{name}")
        case ListOf():
            yield from walk(node.member, f"{path}[]")
        case MapOf():
            yield from walk(node.key, f"{path}{{key}}")
            yield from walk(node.value, f"{path}{{value}}")


def flat(operation: Operation) -> dict[str, Node]:
    nodes = dict(walk(operation.input, "in"))
    if operation.output is not None:
        nodes |= dict(walk(operation.output, "out"))
    return nodes


def paths(shape: Shape, path: str) -> Iterator[tuple[str, Shape]]:
    yield path, shape
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from paths(member, f"{path}.{name}")
    elif shape.type_name == "list":
        yield from paths(shape.member, f"{path}[]")
    elif shape.type_name == "map":
        yield from paths(shape.key, f"{path}{{key}}")
        yield from paths(shape.value, f"{path}{{value}}")


@pytest.mark.parametrize("prefix", SERVICES)
def test_targets_are_the_services_own(prefix: str) -> None:
    assert service(prefix).target == prefix == described(prefix).metadata["targetPrefix"]
    assert described(prefix).metadata["jsonVersion"] == "1.1"


@pytest.mark.parametrize(("prefix", "name"), OPERATIONS, ids=[n for _, n in OPERATIONS])
def test_every_shape_of_every_operation_is_served(prefix: str, name: str) -> None:
    """Every pattern can be translated, and no bound, enum or requirement is lost."""
    operation = service(prefix).find(name)
    model = described(prefix).operation_model(name)
    nodes = flat(operation)
    shapes = dict(paths(model.input_shape, "in"))
    if model.output_shape is not None:
        shapes |= dict(paths(model.output_shape, "out"))
    assert nodes.keys() == shapes.keys()
    for path, shape in shapes.items():
        node, metadata = nodes[path], shape.metadata
        known = {"min", "max", "pattern", "enum", "sensitive", "required", "box"}
        assert not set(metadata) - known, f"{path}: {metadata}"
        match node:
            case Text():
                assert (node.low, node.high) == (metadata.get("min"), metadata.get("max"))
                assert list(node.allowed) == metadata.get("enum", [])
                assert bool(node.pattern) == bool(metadata.get("pattern"))
                if node.pattern:
                    compiled(node.pattern)
            case Number() | ListOf() | MapOf():
                assert (node.low, node.high) == (metadata.get("min"), metadata.get("max"))
            case Structure():
                assert node.required == set(shape.required_members)
                assert node.names == {}  # the wire's names are the members'


WIDER = [
    ("CreateModel", "in.PrimaryContainer.ModelDataUrl"),
    ("CreateModel", "in.Containers[].ModelDataSource.S3DataSource.S3Uri"),
    ("CreateEndpointConfig", "in.DataCaptureConfig.DestinationS3Uri"),
]


@pytest.mark.parametrize(("name", "path"), WIDER)
def test_files_are_urls_here(name: str, path: str) -> None:
    node = flat(service("SageMaker").find(name))[path]
    assert isinstance(node, Text)
    shape = dict(paths(described("SageMaker").operation_model(name).input_shape, "in"))[path]
    goods = ["s3://bucket/key", "https://host/key", "file:///srv/model.tar.gz"]
    if path.startswith("in.Data"):
        assert node.pattern == shape.metadata["pattern"] + "|file:///.+"
    else:  # what of these is refused, the store tells in words
        assert shape.metadata["pattern"] == "(https|s3)://([^/]+)/?(.*)"
        goods += ["http://host/key", "gs://bucket/key", "az://container/key", "file://host/x"]
    for good in goods:
        assert compiled(node.pattern).fullmatch(good), good
    for bad in ("ftp://host/x", "/srv/model.tar.gz"):
        assert not compiled(node.pattern).fullmatch(bad), bad


def parse_error(body: bytes, bytes_max: int = 1 << 20) -> HostlerError:
    with pytest.raises(HostlerError) as raised:
        service("SageMaker").find("CreateModel").parse(body, bytes_max)
    return raised.value


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[]",
        b'"a"',
        b'{"ModelName": NaN}',
        b'{"ModelName": "\\ud800"}',
        b'{"ModelName": "a", "X": ' + b"[" * 40 + b"]" * 40 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=range(9),
)
def test_what_is_no_request(body: bytes) -> None:
    assert parse_error(body).details == {"aws": "SerializationException"}


def test_what_is_valid_may_nest_and_be_wide() -> None:
    body = orjson.dumps({"ModelName": "a", "Unknown": {"a": [[[[[{}]]]]] * 1000}})
    assert service("SageMaker").find("CreateModel").parse(body) == {"ModelName": "a"}


def test_bodies_are_bounded() -> None:
    assert parse_error(b" " * 101, 100).code is Code.PAYLOAD_TOO_LARGE


def test_no_body_is_an_empty_one() -> None:
    assert service("SageMaker").find("ListModels").parse(b"") == {}


def test_operations_that_are_not_served() -> None:
    with pytest.raises(HostlerError, match="hostler does not serve it") as raised:
        service("SageMaker").find("CreateTrainingJob")
    assert raised.value.code is Code.UNIMPLEMENTED
    with pytest.raises(HostlerError, match="there is no such operation"):
        service("SageMaker").find("CreateModels")


def test_operations_that_there_are_not_cannot_be_loaded() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        load_service("sagemaker", frozenset({"Nonsense"}))


def test_no_answer_is_an_empty_one() -> None:
    assert service("SageMaker").find("DeleteModel").render({"ignored": 1}) == b""
