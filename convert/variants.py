"""Variants: the conversions that `convert compare` knows, each a method with some of its options changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from convert.options import CodingOptions, options_of
from core.registered import listed
from core.registry import Registry

if TYPE_CHECKING:
    from convert.method import Method
    from core.rate_coded.network import RateCoding


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method with its options, as it stands in a comparison."""

    method: str
    """Registered name of the method."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method that differ from the usual ones, by name."""
    coding: CodingOptions = field(default_factory=CodingOptions)
    """How the network is simulated."""

    @property
    def method_class(self) -> "type[Method]":
        from convert.method import METHODS

        return METHODS[self.method]

    @property
    def carries(self) -> bool:
        """Whether a decision depends on those before, so that single states say nothing about the network."""
        return bool(self.coding.residual_alpha)

    def converting(self, sim_steps: int, method: "Method") -> "RateCoding":
        """How the network is simulated while it is converted: without a gap to stop at, which is found afterwards."""
        return replace(self.coding, stop_gap=None).coding(sim_steps, method)

    def chosen(self, shared: Mapping[str, Any]) -> "Method":
        """The method with the variant's options, and those of `shared`, by name, that it has."""
        own = options_of(self.method_class)
        return self.method_class(
            **{**{name: value for name, value in shared.items() if name in own}, **self.options}
        )


VARIANTS: Registry[Variant] = Registry("conversion variant")
"""Variants by the names that rows, tables and figures show, in the order of the table."""

VARIANTS.register("tan2021")(Variant(method="tan2021"))
VARIANTS.register("max")(Variant(method="max"))
VARIANTS.register("v-init")(Variant(method="tan2021", coding=CodingOptions(v_init=0.5)))
VARIANTS.register("threshold-search")(Variant(method="threshold-search"))
VARIANTS.register("presteps")(Variant(method="threshold-search", coding=CodingOptions(presteps=4)))
VARIANTS.register("signed")(Variant(method="threshold-search", coding=CodingOptions(firing="signed")))
VARIANTS.register("reconstruct")(Variant(method="reconstruct"))
# Chosen on games of minatar/breakout with another seed: of 0, 0.02, 0.05, 0.1, 0.2 the best at T = 2 and 4.
VARIANTS.register("residual")(Variant(method="reconstruct", coding=CodingOptions(residual_alpha=0.05)))
# The comparison replaces the gap of 0 by one that it finds on calibration states.
VARIANTS.register("anytime")(Variant(method="reconstruct", coding=CodingOptions(stop_gap=0.0)))
VARIANTS.register("afterwards")(Variant(method="reconstruct", coding=CodingOptions(firing="afterwards")))
VARIANTS.register("pursuit")(Variant(method="pursuit"))
VARIANTS.register("pursuit-afterwards")(Variant(method="pursuit", coding=CodingOptions(firing="afterwards")))
VARIANTS.register("qcfs")(Variant(method="qcfs"))
VARIANTS.register("exact")(Variant(method="exact"))
VARIANTS.register("qcfs-pursuit")(Variant(method="qcfs", options={"start": "pursuit"}))
VARIANTS.register("exact-pursuit")(Variant(method="exact", options={"start": "pursuit"}))
VARIANTS.register("hybrid")(Variant(method="hybrid"))


def name_of(method: "Method", options: CodingOptions) -> str:
    """The name of a converted network in rows, tables and figures.

    It tells apart networks of one method that are simulated in different ways: the name of the registered variant,
    as in residual, or else the method with changes, as in reconstruct+residual_alpha=0.2. Options of the method
    itself are part of it where a variant is registered for them, as in qcfs-pursuit.
    """
    coding = CodingOptions(**{each.name: getattr(options, each.name) for each in fields(CodingOptions)})
    usual = {each.name: each.default for each in fields(method)}
    given = {name for name, value in usual.items() if getattr(method, name) != value}
    # Those that name more of the given options say more. Of equal ones, the first that was registered counts.
    fitting = sorted(
        (
            (name, variant)
            for name, variant in VARIANTS.items()
            if variant.method == method.name
            and variant.options.keys() <= given
            and all(getattr(method, option) == value for option, value in variant.options.items())
        ),
        key=lambda entry: -len(entry[1].options),
    )
    for name, variant in fitting:
        if variant.coding == coding:
            VARIANTS.get(name)  # rows name it, so what registered it was used
            return name
    base = next((name for name, variant in fitting if variant.coding == CodingOptions()), method.name)
    changed = (each for each in fields(CodingOptions) if getattr(coding, each.name) != each.default)
    return "+".join([base, *(f"{each.name}={getattr(coding, each.name)}" for each in changed)])


def all_variants() -> Registry[Variant]:
    """The registered variants, and every other method as a variant of its own name."""
    found = VARIANTS.copy()
    for method in listed("convert.method:METHODS"):
        if method.name not in found:
            found.register(method.name)(Variant(method=method.name))
    return found
