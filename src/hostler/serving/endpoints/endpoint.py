"""One endpoint: which variant answers a request. Loop thread only."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hostler.core import Code, HostlerError
from hostler.serving.endpoints.plan import EndpointPlan
from hostler.serving.endpoints.shadow import Shadow
from hostler.serving.endpoints.split import Split
from hostler.serving.endpoints.variant import Variant, VariantStatus

__all__ = ["Endpoint"]


class Endpoint:
    """What one plan makes of an endpoint; another plan makes another object of the same variants.

    `variants`: by generation and name. `shadows`: that get copies of requests.
    """

    __slots__ = ("_named", "_split", "plan", "shadows", "variants")

    def __init__(
        self,
        plan: EndpointPlan,
        variants: Mapping[tuple[int, str], Variant],
        shadows: tuple[Shadow, ...],
        before: Endpoint | None,
    ) -> None:
        self.plan = plan
        self.variants = variants
        self.shadows = shadows
        shares: list[tuple[Variant, float]] = []
        named: dict[str, list[tuple[Variant, float]]] = {}
        for fleet in plan.fleets:
            weight = math.fsum(variant.weight for variant in fleet.variants)
            for wanted in fleet.variants:
                variant = variants[fleet.generation, wanted.name]
                part = wanted.weight / weight if weight else 0.0
                shares.append((variant, fleet.share * part))
                named.setdefault(wanted.name, []).append((variant, fleet.share))
        last = None if before is None else before._split
        self._split: Split[Variant] | None = _split(shares, last)
        self._named: dict[str, Split[Variant]] = {}
        for name, parts in named.items():
            split = _split(parts, None if before is None else before._named.get(name))
            if split is not None:
                self._named[name] = split

    def choose(self, target_variant: str = "") -> Variant:
        """The variant that answers the next request.

        By weights within a fleet and by the shares of fleets, exactly; or the one that is named, in
        any fleet, whatever its weight. Raises: NOT_FOUND for a name that no fleet with traffic has;
        UNAVAILABLE where it or nothing is up, or all weights are 0.
        """
        if not target_variant:
            split = self._split
            if split is None:
                raise self._weightless()
            return split.next()
        named = self._named.get(target_variant)
        if named is None:
            raise self._unknown(target_variant)
        return named.next()

    def _empty(self, which: str = "") -> HostlerError:
        return HostlerError(
            Code.UNAVAILABLE,
            f"{which}endpoint '{self.plan.name}' has no instances that can serve now: they are "
            "started, or could not be and are tried again; DescribeEndpoint says how far they are",
            retry_after_s=1.0,
        )

    def _weightless(self) -> HostlerError:
        if not self._named or self.plan.awaited:
            return self._empty()
        names = ", ".join(f"'{name}'" for name in sorted(self._named))
        return HostlerError(
            Code.UNAVAILABLE,
            f"endpoint '{self.plan.name}' has no variant that takes this request: the weights of "
            f"all are 0; name one as the target variant ({names}), or give one a weight",
        )

    def _unknown(self, name: str) -> HostlerError:
        if not self._named or name in self.plan.awaited:
            return self._empty(f"variant '{name}' of ")
        names = ", ".join(f"'{name}'" for name in sorted(self._named))
        return HostlerError(
            Code.NOT_FOUND,
            f"variant '{name}' is not found for endpoint '{self.plan.name}'; it has {names}",
        )

    def rows(self) -> list[VariantStatus]:
        """Facts of all variants, shadows last."""
        shares: dict[Variant, float] = {}
        for variant, share in self._split.shares if self._split is not None else ():
            shares[variant] = share
        rows = [v.status(shares.get(v, 0.0), shadow=False) for v in self.variants.values()]
        return rows + [s.variant.status(s.plan.share, shadow=True) for s in self.shadows]


def _split(
    shares: list[tuple[Variant, float]], before: Split[Variant] | None
) -> Split[Variant] | None:
    """None where nobody has a share. A plan that changes nothing here interrupts nothing."""
    if not any(share > 0 for _, share in shares):
        return None
    split = Split(shares)
    return before if before is not None and before.shares == split.shares else split
