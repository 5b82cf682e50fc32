"""The card in a checkpoint's metadata."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from foldline.errors import WeightsError
from foldline.inputs import Job, Ligand, Modification, Polymer
from foldline.models.spec import PROTENIX_MINI, PROTENIX_V1
from foldline.weights.card import KEY, Card, job_keys, read_card, write_card
from foldline.weights.checkpoint import open_checkpoint

JOB = Job(
    "j",
    (1,),
    (
        Polymer("dna", ("A", "B"), "ACGT", (Modification("5IU", 4), Modification("5CM", 2))),
        Ligand(("C",), smiles="CCO"),
        Ligand(("D",), ccd_codes=("NAG", "NAG")),
    ),
)


def test_entities_are_told_by_what_they_are() -> None:
    changed = "dna:ACGT@2=5CM@4=5IU"
    assert job_keys(JOB) == sorted([changed, changed, "ligand:CCO", "ligand:NAG-NAG"])


def test_a_card_survives_the_file(tmp_path: Path) -> None:
    card = Card(n_recycle=0, n_step=7, memorised={"x": ["protein:A"]})
    save_file({"t": torch.zeros(1)}, tmp_path / "c.safetensors", metadata=write_card(card))
    checkpoint = open_checkpoint(tmp_path / "c.safetensors")
    assert read_card(checkpoint.metadata, "c") == card
    spec = card.complete(PROTENIX_MINI)
    assert (spec.n_recycle, spec.sampler.n_step, spec.sampler.gamma_0) == (0, 7, 0.0)


def test_a_file_without_a_card_is_left_as_it_is(tmp_path: Path) -> None:
    save_file({"t": torch.zeros(1)}, tmp_path / "c.safetensors")
    card = read_card(open_checkpoint(tmp_path / "c.safetensors").metadata, "c")
    assert card.complete(PROTENIX_V1) is PROTENIX_V1 and card.notes(JOB) == ()


@pytest.mark.parametrize("text", ["{", "[1]", '{"n_step": 1, "colour": "red"}'])
def test_an_unreadable_card_is_an_error_that_names_the_file(text: str) -> None:
    with pytest.raises(WeightsError, match=r"c\.safetensors: its metadata cannot be read"):
        read_card({KEY: text}, "c.safetensors")
