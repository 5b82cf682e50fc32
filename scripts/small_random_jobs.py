"""Features of small random jobs of every kind, for scripts that run many of them through a network."""

import json
import random
from dataclasses import replace

from random_jobs import JobMaker

from foldline.chem.components import Components
from foldline.chem.conformers import Conformers
from foldline.errors import InputError
from foldline.features.build import build_features
from foldline.inputs import jobs_from_json
from foldline.tensors import Features

MOST_TOKENS, MOST_ATOMS = 40, 260
POOL = {
    "protein": ["MSE", "SEP", "TPO", "PTR", "HYP", "CSO", "MLY", "DAL"],
    "dna": ["5CM", "DA", "8OG"],
    "rna": ["PSU", "5MC", "A2M", "OMG"],
    "ligand": ["ZN", "MG", "NA", "CL", "FE", "SO4", "GOL", "ACT", "HEM", "ATP", "EDO", "HOH", "CO3", "NH4", "BEN"],
    "sugar": ["NAG", "MAN", "BMA", "FUC", "GAL"],
}


def small_jobs(number: int, seed: int) -> list[Features]:
    """Features of `number` jobs of at most 40 tokens and 260 atoms, some with templates that are made up."""
    from made_up_features import made_up_templates

    components, conformers, found = Components.open(), Conformers(), []
    while len(found) < number:
        seed += 1
        rng = random.Random(seed)
        maker = JobMaker(rng, components, POOL)
        maker.make()
        text = json.dumps(maker.dialects(f"small{seed}")[0])
        if len(maker.entities) > 5:
            continue
        try:
            (job,), errors = jobs_from_json(text)
            made = None if errors else build_features(job, components=components, conformers=conformers).features
        except (InputError, ValueError):
            continue  # a job that cannot be
        if made is None or made.n_token > MOST_TOKENS or made.n_atom > MOST_ATOMS:
            continue
        if rng.random() < 0.4:
            made = replace(made, **made_up_templates(rng, made.n_token))
        found.append(made)
    return found
