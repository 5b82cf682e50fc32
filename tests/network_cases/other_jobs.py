"""Jobs of other sizes than the tiny one, and what to compare of two results."""

from dataclasses import replace

import numpy as np
from tiny_features import rel_rms, tiny_features

from foldline.tensors import Embeddings, Features, Samples
from foldline.tensors.features import AXES


def first_tokens(features: Features, n_token: int) -> Features:
    """The job that ends after some tokens; it has two distinct template slots, as most jobs have, not three."""
    atoms = features.atom_to_token < n_token
    bonds = (features.bond_tokens < n_token).all(1)
    keep = {"N_token": slice(n_token), "N_atom": atoms, "N_bond": bonds}
    changed = {}
    for name, axes in AXES.items():
        array = getattr(features, name)
        for axis, what in enumerate(axes):
            if what in keep:
                array = array[(slice(None),) * axis + (keep[what],)]
        changed[name] = array
    for name in AXES:
        if name.startswith("template_"):
            slots = changed[name].copy()
            slots[1:] = 0
            changed[name] = slots
    return replace(features, **changed)


def some_jobs() -> list[Features]:
    """Three jobs of different numbers of tokens, atoms, bonds, alignment rows, chains and template slots."""
    return [tiny_features(), first_tokens(tiny_features(1, n_msa=9), 17), first_tokens(tiny_features(2, n_msa=40), 25)]


def assert_same_samples(found: Samples, wanted: Samples, tolerance: float = 1e-5, scores: float = 1e-4) -> None:
    """Positions and contacts by relative RMS, scores by value."""
    assert found.seed == wanted.seed and found.first == wanted.first
    assert rel_rms(found.coordinates, wanted.coordinates) <= tolerance
    assert rel_rms(found.contact_probs, wanted.contact_probs) <= tolerance
    assert len(found.confidences) == len(wanted.confidences)
    for x, y in zip(found.confidences, wanted.confidences, strict=True):
        for name, value in vars(y).items():
            assert np.allclose(getattr(x, name), value, rtol=scores, atol=scores, equal_nan=True), name


def assert_same_embeddings(found: Embeddings | None, wanted: Embeddings | None, tolerance: float = 1e-5) -> None:
    """s_inputs, s and z by relative RMS."""
    assert found is not None and wanted is not None
    for name in ("s_inputs", "s", "z"):
        assert rel_rms(getattr(found, name), getattr(wanted, name)) <= tolerance, name
