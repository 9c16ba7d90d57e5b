"""What a package says about one version of a model, before and after looking inside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hostler.core.ensemble import EnsemblePlan
from hostler.core.environment import Environment
from hostler.core.sequencing import Sequencing
from hostler.core.shaping import Shaping
from hostler.core.signature import Signature, TensorSpec
from hostler.core.tensor import DataType

__all__ = [
    "Batching",
    "Inspection",
    "InstanceGroup",
    "ModelSpec",
    "QueuePolicy",
    "Warmup",
    "WarmupInput",
]


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How long and how many requests may wait. Source: Triton's ModelQueuePolicy.

    `timeout_s`: 0 for none. `delay_on_timeout`: serve a late request after the others (DELAY)
    instead of refusing it (REJECT). `timeout_override`: a client may ask for a shorter time.
    `size_max`: 0 leaves it to the server's own bound.
    """

    timeout_s: float = 0.0
    delay_on_timeout: bool = False
    timeout_override: bool = False
    size_max: int = 0


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are joined.

    `rows_max`: most rows in a joined run; 1 joins nothing. `tuned`: join only as far as runs have
    shown that it raises throughput; False where the package sets `preferred` sizes, which are then
    obeyed. `delay_s`: longest time to hold an idle replica back for more requests.
    `priority_levels`: 0 when there is one class; 1 is the most urgent.
    """

    rows_max: int = 1
    tuned: bool = True
    preferred: tuple[int, ...] = ()
    delay_s: float = 0.0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority: int = 0
    default_policy: QueuePolicy = field(default_factory=QueuePolicy)
    policies: Mapping[int, QueuePolicy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """Replicas of one kind. `kind`: auto, cpu or gpu. `gpus`: device numbers for gpu."""

    count: int = 1
    kind: str = "auto"
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One tensor of a warm-up request; `source` is zero, random or file (then `file` is set)."""

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    source: str = "zero"
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Warmup:
    """A request to run `count` times before the model is ready; 0 rows for an unbatched model."""

    name: str
    rows: int
    inputs: tuple[WarmupInput, ...]
    count: int = 1


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One version of one model.

    `directory`: the package's folder. `file`: what the runtime loads. `runtime`: a key of the
    table in `runtimes` (onnx, torch, python). `platform`, `backend`: Triton's words for metadata.
    `config`: Triton's ModelConfig in its JSON form, completed once `signature` is.
    `signature`: None until `repository.complete` has joined the package with an `Inspection`.
    `options`: runtime settings from `parameters` and `optimization`, by name.
    `auto_complete`: the package leaves parts of its configuration to the model's own words.
    `rows_ceiling`: most rows to join where the package does not state `max_batch_size`; 0 where it
    does. `labels`: class names by output, read from the package's label files.
    `file_bytes`: size of what will be loaded, the first estimate of its footprint.
    `fingerprint`: changes whenever the package's files or overrides do. `sequencing`: requests
    belong to sequences. `ensemble`: the model is a plan of other models; it has no `file`, and its
    `runtime` is "ensemble". `cached`: equal requests may be answered from the response cache.
    `initial_states`: what files say that states start with, by their input. `shaping`: requests
    are padded or joined end to end before the model sees them.
    `environment`: the package brings its own Python; `python`: the interpreter made of it, set
    before a load. None of either: workers run on the server's own. `opaque`: the package brings
    handlers of its own that take and give bytes; see `core.payload`. `variables`: the environment
    variables of its workers beside those that all have.
    """

    name: str
    version: int
    directory: Path
    file: Path
    runtime: str
    platform: str = ""
    backend: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    signature: Signature | None = None
    batching: Batching = field(default_factory=Batching)
    instances: tuple[InstanceGroup, ...] = (InstanceGroup(),)
    warmup: tuple[Warmup, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    auto_complete: bool = True
    decoupled: bool = False
    rows_ceiling: int = 0
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    file_bytes: int = 0
    fingerprint: str = ""
    sequencing: Sequencing | None = None
    initial_states: Mapping[str, bytes] = field(default_factory=dict)
    ensemble: EnsemblePlan | None = None
    cached: bool = False
    shaping: Shaping | None = None
    environment: Environment | None = None
    python: Path | None = None
    opaque: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def instance_count(self) -> int:
        """Replicas over all groups, at least one."""
        return max(1, sum(group.count for group in self.instances))

    @property
    def label(self) -> str:
        """`name:version`, for logs and messages."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the model itself says, found by opening it.

    `inputs`, `outputs`: full shapes as in the graph (batch dimension included, -1 variable), or
    None where the framework does not know them. `config`: ModelConfig JSON completed by the
    model's own `auto_complete_config`, or None. `batch_dependent`: an item's answer depends on
    its neighbours in a batch (dynamic quantisation), so joining is off unless asked for.
    """

    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    config: Mapping[str, object] | None = None
    batch_dependent: bool = False
