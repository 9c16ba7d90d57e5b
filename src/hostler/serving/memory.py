"""Who may hold how much memory: the ledger, the eviction plan and the estimates. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from hostler.core import Code, HostlerError, ModelSpec
from hostler.serving.config import Config

__all__ = [
    "Ledger",
    "Resident",
    "blend",
    "drift",
    "estimate_bytes",
    "evictable",
    "floor_bytes",
    "for_jobs",
    "is_room_short",
    "movable_bytes",
    "plan",
    "shortage",
    "unmovable_bytes",
]

# A loaded model holds at least its weights; the allocator may have served them from memory that
# was freed before, in which case the process did not grow.
_IN_PROCESS_FLOOR_RATIO = 1.05


@dataclass(frozen=True, slots=True)
class Resident:
    """A model version in memory, as the planner sees it.

    `last_used`: `Clock.now()` seconds. `busy`: pins and requests. `pinned`: by configuration, for
    ever. `kept`: not to be evicted now, whatever its use (being replaced, or leaving already).
    `lent`: all who hold it are jobs. `unasked_s`: seconds since a client had it, or since its load.
    """

    key: Hashable
    name: str
    version: int
    footprint_bytes: int
    last_used: float
    busy: int = 0
    pinned: bool = False
    kept: bool = False
    lent: bool = False
    unasked_s: float = math.inf


class Ledger:
    """What is held, and what is promised. All amounts in bytes.

    Memory is *claimed* when a load has been given its place, *held* from the moment it may
    allocate until it is freed, and *leaving* from the start of its eviction until then. `used` is
    what is really there; `committed` is what will be there when all evictions and claims are
    through. Both include `drift_bytes`: growth of the process that no model's footprint explains.
    """

    __slots__ = ("_claims", "_held", "_leaving", "budget_bytes", "drift_bytes")

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.drift_bytes = 0
        self._claims: dict[Hashable, int] = {}
        self._held: dict[Hashable, int] = {}
        self._leaving: set[Hashable] = set()

    @property
    def held_bytes(self) -> int:
        """What models hold, those that are leaving included."""
        return sum(self._held.values())

    @property
    def used_bytes(self) -> int:
        """What counts against the budget now."""
        return self.held_bytes + self.drift_bytes

    @property
    def committed_bytes(self) -> int:
        """What will count against the budget when all evictions and claims are through."""
        leaving = sum(self._held[key] for key in self._leaving)
        return self.used_bytes - leaving + sum(self._claims.values())

    def amount(self, key: Hashable) -> int:
        """What `key` holds or claims; 0 for a stranger."""
        return self._held.get(key) or self._claims.get(key, 0)

    def claim(self, key: Hashable, amount: int) -> None:
        """Promise memory to a load that does not allocate yet."""
        assert key not in self._claims, key
        assert key not in self._held, key
        self._claims[key] = amount

    def may_hold(self, key: Hashable) -> bool:
        """Whether a claim can be taken up now, or must wait for evictions to finish.

        With no eviction under way it was promised, whatever other models have grown by since.
        """
        fits = self.used_bytes + self._claims[key] <= self.budget_bytes
        return fits or not self._leaving

    def hold(self, key: Hashable) -> None:
        """Take up a claim: from now on it is memory in use."""
        self._held[key] = self._claims.pop(key)

    def settle(self, key: Hashable, amount: int) -> None:
        """Replace an estimate by what was measured."""
        assert key in self._held, key
        self._held[key] = amount

    def leave(self, key: Hashable) -> None:
        """Memory that is being freed."""
        assert key in self._held, key
        self._leaving.add(key)

    def free(self, key: Hashable) -> None:
        """Memory that is gone, or a claim that is given up. Idempotent."""
        self._claims.pop(key, None)
        self._held.pop(key, None)
        self._leaving.discard(key)


def evictable(residents: Iterable[Resident]) -> list[Resident]:
    """The idle ones that may go, least recently used first."""
    idle = [r for r in residents if not (r.busy or r.kept or r.pinned)]
    idle.sort(key=lambda resident: resident.last_used)
    return idle


def plan(residents: Iterable[Resident], excess_bytes: int) -> list[Resident] | None:
    """The fewest of the least recently used idle models that free at least `excess_bytes`.

    Returns them in the order of eviction (empty where nothing is in excess), or None where all
    idle ones together do not free enough; then none should go.
    """
    victims: list[Resident] = []
    if excess_bytes <= 0:
        return victims
    for resident in evictable(residents):
        victims.append(resident)
        excess_bytes -= resident.footprint_bytes
        if excess_bytes <= 0:
            return victims
    return None


def for_jobs(residents: Iterable[Resident], unasked_s: float) -> list[Resident]:
    """These as a claim of a job sees them: what clients have had lately is kept."""
    return [r if r.unasked_s >= unasked_s else replace(r, kept=True) for r in residents]


def movable_bytes(residents: Iterable[Resident]) -> int:
    """What is idle, and what would be if jobs took no new pins."""
    movable = (r for r in residents if not (r.pinned or r.kept) and (r.lent or not r.busy))
    return sum(r.footprint_bytes for r in movable)


def unmovable_bytes(residents: Iterable[Resident], call_path: tuple[str, ...]) -> int:
    """What stays in memory however long a sub-call waits: pinned models, and its own callers."""
    return sum(r.footprint_bytes for r in residents if r.pinned or r.name in call_path)


def shortage(
    label: str,
    needed_bytes: int,
    ledger: Ledger,
    residents: Iterable[Resident],
    own_bytes: int = 0,
) -> HostlerError:
    """The error of a load for which there is no room, with the numbers.

    `own_bytes`: what the load itself holds of the ledger while it is asked.
    """
    budget = ledger.budget_bytes
    if needed_bytes > budget:
        return HostlerError(
            Code.RESOURCE_EXHAUSTED,
            f"no memory for model '{label}': it needs {_size(needed_bytes)} and the whole "
            f"budget is {_size(budget)}; raise serving.memory_budget_bytes (--memory-budget)",
            details={"needed_bytes": needed_bytes, "budget_bytes": budget},
        )
    busy = [r for r in residents if r.busy or r.kept or r.pinned]
    others = max(0, ledger.committed_bytes - own_bytes)
    return HostlerError(
        Code.RESOURCE_EXHAUSTED,
        f"no memory for model '{label}': it needs {_size(needed_bytes)} and others hold "
        f"{_size(others)} of the budget of {_size(budget)}; {len(busy)} of them are busy or pinned "
        f"({_size(sum(r.footprint_bytes for r in busy))}), so try again later, or raise "
        "serving.memory_budget_bytes (--memory-budget)",
        details={
            "needed_bytes": needed_bytes,
            "used_bytes": others,
            "budget_bytes": budget,
            "busy_models": len(busy),
        },
        retry_after_s=1.0,
    )


def is_room_short(error: HostlerError) -> bool:
    """Whether it is a `shortage` that passes when models are idle that are busy now."""
    return error.code is Code.RESOURCE_EXHAUSTED and bool(error.details.get("busy_models"))


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count} bytes"


def estimate_bytes(spec: ModelSpec, in_process: bool, config: Config) -> int:
    """What a model that was never measured may need, from the size of its file."""
    if in_process:
        return config.in_process_base_bytes + int(config.in_process_file_ratio * spec.file_bytes)
    one = config.worker_base_bytes + int(config.worker_file_ratio * spec.file_bytes)
    return one * spec.instance_count


def floor_bytes(spec: ModelSpec) -> int:
    """What a model loaded in process holds at the least."""
    return max(1, int(_IN_PROCESS_FLOOR_RATIO * spec.file_bytes))


def blend(measured_bytes: int, known_bytes: int | None, floor: int) -> int:
    """The footprint of a model run in process, from this measurement and what was known.

    A difference of process sizes is noisy (other requests allocate meanwhile, freed memory is used
    again), so each new one counts half.
    """
    if known_bytes is not None:
        measured_bytes = (measured_bytes + known_bytes) // 2
    return max(measured_bytes, floor)


def drift(growth_bytes: int, explained_bytes: int, budget_bytes: int, config: Config) -> int:
    """The part of the server's growth that counts against the budget beside the footprints.

    `growth_bytes`: of the process since start; `explained_bytes`: footprints in process.
    """
    unexplained = growth_bytes - explained_bytes - config.drift_free_bytes
    return max(0, min(unexplained, int(config.drift_share_max * budget_bytes)))
