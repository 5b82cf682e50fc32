"""A reference conformer and where one comes from: any callable from `Component`, or a mapping by component code.
Knows nothing of how conformers are made (`conformers`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from foldline.chem.component import Component
from foldline.errors import InputError


@dataclass(frozen=True, eq=False)
class Conformer:
    """Reference positions of a component's heavy atoms (more atoms do no harm)."""

    atom_names: np.ndarray  # str [n]
    pos: np.ndarray  # float32 [n, 3], Å; zeros where `mask` is False
    mask: np.ndarray  # bool [n]
    charge: np.ndarray | None = None  # int8 [n]: charges after RDKit's clean-up, where they replace the dictionary's
    method: str = "given"  # "etkdg" | "etkdg-random" | "heavy-random" | "ideal" | "model" | "given"


ConformerSource = Callable[[Component], Conformer]


def as_source(conformers: Mapping[str, Conformer] | ConformerSource) -> ConformerSource:
    """Make a mapping by component code into a source; a callable is returned as it is.

    Raises (from the source made of a mapping):
        InputError: the mapping lacks the component.
    """
    if callable(conformers):
        return conformers

    def from_mapping(component: Component) -> Conformer:
        try:
            return conformers[component.code]
        except KeyError:
            raise InputError(f"no reference conformer was given for component {component.code!r}") from None

    return from_mapping
