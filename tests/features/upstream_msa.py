"""Run by the interpreter that has Protenix: features of every case of `feature_cases.py` as npz (argument 1)."""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from feature_cases import cases
from protenix.data.constants import DNA_CHAIN, LIGAND_CHAIN_TYPES, PROTEIN_CHAIN, RNA_CHAIN
from protenix.data.msa.msa_featurizer import FeatureAssemblyLine
from protenix.data.msa.msa_utils import RawMsa, map_to_standard

KIND = {"protein": PROTEIN_CHAIN, "rna": RNA_CHAIN, "dna": DNA_CHAIN, "ligand": LIGAND_CHAIN_TYPES}


def features(chains: list[dict]) -> dict[str, np.ndarray]:
    """Upstream's alignment features of a case; a ligand's atoms share residue 1."""
    meta, asym, residue = {}, [], []
    for entity, chain in enumerate(chains):
        unpaired, kind = chain["unpaired"], KIND[chain["kind"]]
        if chain["paired"]:
            unpaired = RawMsa.from_a3m(chain["sequence"], kind, chain["paired"] + unpaired, dedup=True).to_a3m()
        for _ in range(chain["count"]):
            number, length = len(meta), len(chain["sequence"])
            meta[number] = {
                "entity_id": entity,
                "chain_id": f"C{number}",
                "sequence": chain["sequence"],
                "paired_msa": chain["paired"],
                "unpaired_msa": unpaired,
                "chain_entity_type": kind,
            }
            asym += [number] * length
            residue += [1] * length if chain["kind"] == "ligand" else list(range(1, length + 1))
    columns = map_to_standard(np.array(asym), np.array(residue), meta)
    out = FeatureAssemblyLine().assemble(meta, columns).to_dict()
    return {
        "msa": out["msa"].astype(np.int8),
        "deletions": out["deletion_matrix"].astype(np.uint8),
        "profile": out["profile"].astype(np.float32),
        "deletion_mean": out["deletion_mean"].astype(np.float32),
    }


if __name__ == "__main__":
    arrays = {f"{name}.{key}": value for name, chains in cases().items() for key, value in features(chains).items()}
    np.savez_compressed(sys.argv[1], **arrays)
