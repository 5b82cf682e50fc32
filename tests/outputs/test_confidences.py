"""The two confidence files: keys, order, line form, rounding, nulls."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from foldline.outputs.confidences import confidences_json, summary_json, token_residues
from foldline.outputs.layout import PredictedJob
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.results import Samples

RandomSamples = Callable[[Topology, int, int], Samples]


def full_text(job: PredictedJob, samples: Samples) -> str:
    return b"".join(
        confidences_json(job.topology, job.atom_to_token, samples.confidences[0], samples.contact_probs)
    ).decode()


def test_full_file_to_the_letter(
    assembled: Callable[..., Topology], job_of: Callable[[Topology, str], PredictedJob], random_samples: RandomSamples
) -> None:
    """A glycine and two ions: seven atoms, three tokens."""
    topology = assembled(
        [EntitySpec("protein", ("A",), "G"), EntitySpec("ligand", ("NaN", "C"), ccd_codes=("ZN",))],
    )
    job = job_of(topology, "tiny")
    assert topology.atom_name.tolist() == ["N", "CA", "C", "O", "OXT", "ZN", "ZN"]
    samples = random_samples(topology, 1, 1)
    confidences = replace(
        samples.confidences[0],
        atom_plddt=np.array([90.125, 85, 85.3, 100, 0, 7.006, 50.5], np.float32),
        pae=np.array([[0.25, 1, 31.75], [np.nan, np.nan, np.nan], [20.04, 0.8, 120]], np.float32),
    )
    contact = np.array([[1, 0.5, 0.123], [0.5, 1.2, 0], [0.006, 0, 1]], np.float32)
    text = full_text(job, replace(samples, confidences=(confidences,), contact_probs=contact))
    assert text == (
        "{\n"
        '  "atom_chain_ids": ["A","A","A","A","A","NaN","C"],\n'
        '  "atom_plddts": [90.13,85.0,85.3,99.99,0.0,7.01,50.5],\n'
        '  "contact_probs": [[1.0,0.5,0.12],[0.5,1.0,0.0],[0.01,0.0,1.0]],\n'
        '  "pae": [[0.3,1.0,31.8],[null,null,null],[20.0,0.8,99.9]],\n'
        '  "token_chain_ids": ["A","NaN","C"],\n'
        '  "token_res_ids": [1,1,1]\n'
        "}"
    )


def test_full_file_of_a_complex(job: PredictedJob, random_samples: RandomSamples) -> None:
    samples = random_samples(job.topology, 3, 1)
    read = json.loads(full_text(job, samples))
    pae = samples.confidences[0].pae
    assert list(read) == sorted(read)
    assert np.abs(np.array(read["pae"]) - pae).max() < 0.0501 and np.abs(pae - pae.T).max() > 1
    assert np.abs(np.array(read["contact_probs"]) - samples.contact_probs).max() < 0.00501
    assert read["atom_chain_ids"] == job.topology.chain_id[job.topology.atom_chain].tolist()
    first_atom = np.unique(job.atom_to_token, return_index=True)[1]
    residue = job.topology.atom_res[first_atom]
    assert read["token_res_ids"] == job.topology.res_id[residue].tolist()
    assert read["token_chain_ids"] == job.topology.chain_id[job.topology.res_chain[residue]].tolist()
    assert len(read["token_res_ids"]) == len(pae)


def test_modified_residue_has_a_token_per_atom(jobs: dict[str, PredictedJob]) -> None:
    topology, tokens = jobs["protein_ligand_ion"].topology, jobs["protein_ligand_ion"].atom_to_token
    names = topology.res_name[token_residues(topology, tokens)].tolist()
    assert names.count("SEP") == (topology.res_name[topology.atom_res] == "SEP").sum() > 1
    assert names.count("ATP") == 62 and names.count("MET") == 2 + 1


def test_summary_to_the_letter(
    assembled: Callable[..., Topology], job_of: Callable[[Topology, str], PredictedJob], random_samples: RandomSamples
) -> None:
    topology = assembled([EntitySpec("protein", ("A",), "GG"), EntitySpec("ligand", ("B",), ccd_codes=("ZN",))])
    confidences = replace(
        random_samples(topology, 1, 1).confidences[0],
        chain_iptm=np.array([0.104, 0.105], np.float32),
        chain_pair_iptm=np.array([[0.9, 0.104], [0.104, 0.9]], np.float32),
        chain_pair_pae_min=np.array([[0.756, 5], [2.344, 0.25]], np.float32),
        chain_ptm=np.array([0.333, np.nan], np.float32),
        has_clash=True,
        iptm=0.104,
        ptm=0.5,
        ranking_score=-99.8168,
    )
    expected = """{
 "chain_ids": [
  "A",
  "B"
 ],
 "chain_iptm": [
  0.1,
  0.1
 ],
 "chain_pair_iptm": [
  [
   0.33,
   0.1
  ],
  [
   0.1,
   null
  ]
 ],
 "chain_pair_pae_min": [
  [
   0.76,
   5.0
  ],
  [
   2.34,
   0.25
  ]
 ],
 "chain_ptm": [
  0.33,
  null
 ],
 "fraction_disordered": 0.25,
 "has_clash": 1.0,
 "iptm": 0.1,
 "ptm": 0.5,
 "ranking_score": -99.82
}"""
    assert summary_json(topology, confidences, 0.25).decode() == expected


def test_lone_chain_has_no_iptm(assembled: Callable[..., Topology], random_samples: RandomSamples) -> None:
    """Even where a family counts it as zero."""
    topology = assembled([EntitySpec("protein", ("NaN",), "MKTAY")])
    confidences = replace(random_samples(topology, 1, 1).confidences[0], iptm=0.0, chain_iptm=np.zeros(1, np.float32))
    read = json.loads(summary_json(topology, confidences, 0.0))
    assert read["iptm"] is None and read["chain_iptm"] == [None]
    assert read["chain_pair_iptm"] == [read["chain_ptm"]] and read["chain_ids"] == ["NaN"]


def test_memory_does_not_grow_with_the_matrix(
    assembled: Callable[..., Topology], job_of: Callable[[Topology, str], PredictedJob], random_samples: RandomSamples
) -> None:
    """2,000 tokens are 36 MB of text; writing them needs the arrays of one block."""
    topology = assembled([EntitySpec("protein", ("A",), "G" * 2000)])
    job, samples = job_of(topology, "long"), random_samples(topology, 1, 1)
    tracemalloc.start()
    size = sum(
        len(piece)
        for piece in confidences_json(topology, job.atom_to_token, samples.confidences[0], samples.contact_probs)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 30e6 and peak < 20e6
