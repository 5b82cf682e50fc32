"""The ModelCIF tables that say what a predicted structure is, what made it and how sure it is. No atoms, no chemistry.

Sources: AlphaFold 3, model/mmcif_metadata.py (which tables); the ModelCIF dictionary mmcif_ma.dic 1.4.5.
No dates and no machine names: the same prediction gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gemmi import cif

from foldline.outputs.decimals import fixed
from foldline.structure.atoms import Topology

DICTIONARY = "https://raw.githubusercontent.com/ihmwg/ModelCIF/master/dist/mmcif_ma.dic"
DISCLAIMER = (
    "This is a computed structure model, not an experimentally determined structure. It comes without any warranty"
    " and is not approved for clinical use."
)


@dataclass(frozen=True)
class Provenance:
    """What made a prediction. Every field is written as it stands; empty ones are left out."""

    version: str  # of Foldline
    model: str  # name of the checkpoint, for example "protenix-v1"
    checkpoint: str = ""  # SHA-256 of the checkpoint
    license: str = ""  # terms of the weights' owner for the output
    license_url: str = ""


def quoted(value: object) -> str:
    """A CIF value, quoted where needed; None and "" are unknown (?), "." is inapplicable."""
    text = "" if value is None else str(value)
    if text in ("", "?"):
        return "?"
    return "." if text == "." else cif.quote(text)


def add_table(block: cif.Block, category: str, columns: Mapping[str, Sequence[object]]) -> None:
    """Add a table from its columns, each value quoted as needed; one without rows is left out."""
    add_raw_table(block, category, {tag: [quoted(value) for value in column] for tag, column in columns.items()})


def add_raw_table(block: cif.Block, category: str, columns: Mapping[str, list[str]]) -> None:
    """Add a table from its columns of CIF text: pairs for a single row, nothing for none."""
    n_row = len(next(iter(columns.values())))
    if n_row == 1:
        for tag, (value,) in columns.items():
            block.set_pair(f"{category}.{tag}", value)
    elif n_row:
        block.init_loop(f"{category}.", list(columns)).set_all_values(list(columns.values()))


def add_model_tables(block: cif.Block, provenance: Provenance) -> None:
    """Tables on the file's dictionary, its terms of use, its software and the model list."""
    made_with = f"{provenance.version} ({provenance.model})"
    hash_note = f", checkpoint SHA-256 {provenance.checkpoint}" if provenance.checkpoint else ""
    add_table(
        block,
        "_audit_conform",
        {"dict_name": ["mmcif_ma.dic"], "dict_version": ["1.4.5"], "dict_location": [DICTIONARY]},
    )
    usage = [("license", provenance.license, provenance.license_url)] if provenance.license else []
    usage.append(("disclaimer", DISCLAIMER, ""))
    kinds, details, urls = zip(*usage, strict=True)
    add_table(
        block,
        "_pdbx_data_usage",
        {"id": range(1, len(usage) + 1), "type": kinds, "details": details, "url": urls},
    )
    add_table(
        block,
        "_software",
        {
            "pdbx_ordinal": [1],
            "name": ["Foldline"],
            "classification": ["model building"],
            "description": [f"Structure prediction with {provenance.model}{hash_note}"],
            "version": [made_with],
            "type": ["package"],
            "location": ["?"],
        },
    )
    add_table(block, "_ma_software_group", {"ordinal_id": [1], "group_id": [1], "software_id": [1]})
    add_table(block, "_ma_data", {"id": [1], "name": ["Model"], "content_type": ["model coordinates"]})
    add_table(
        block,
        "_ma_model_list",
        {
            "ordinal_id": [1],
            "model_id": [1],
            "model_group_id": [1],
            "model_name": ["Predicted model"],
            "model_group_name": [f"Foldline {made_with}"],
            "data_id": [1],
            "model_type": ["Ab initio model"],
        },
    )
    add_table(
        block,
        "_ma_protocol_step",
        {"ordinal_id": [1], "protocol_id": [1], "step_id": [1], "method_type": ["modeling"]},
    )


def add_target_tables(block: cif.Block, chain_ids: Sequence[str], chain_entity: Sequence[int]) -> None:
    """Tables that name the modelled entities and chains; `chain_entity` is 1-based."""
    entities = list(dict.fromkeys(chain_entity))
    n_entity, n_chain = len(entities), len(chain_ids)
    add_table(
        block,
        "_ma_target_entity",
        {"entity_id": entities, "data_id": [1] * n_entity, "origin": ["."] * n_entity},
    )
    add_table(
        block,
        "_ma_target_entity_instance",
        {"asym_id": chain_ids, "entity_id": chain_entity, "details": ["."] * n_chain},
    )


def add_quality_tables(block: cif.Block, topology: Topology, atom_plddt: np.ndarray) -> None:
    """Tables of pLDDT: of the model and of every residue (every component of a ligand), the mean over its atoms."""
    values = np.asarray(atom_plddt, np.float64)
    add_table(
        block,
        "_ma_qa_metric",
        {
            "id": [1, 2],
            "name": ["pLDDT", "pLDDT"],
            "type": ["pLDDT", "pLDDT"],
            "mode": ["global", "local"],
            "software_group_id": [1, 1],
        },
    )
    add_table(
        block,
        "_ma_qa_metric_global",
        {"ordinal_id": [1], "model_id": [1], "metric_id": [1], "metric_value": fixed(values.mean(keepdims=True), 2)},
    )
    n_res = len(topology.res_id)
    count = np.bincount(topology.atom_res, minlength=n_res)
    mean = np.bincount(topology.atom_res, weights=values, minlength=n_res) / np.maximum(count, 1)
    present = np.flatnonzero(count)
    polymer = topology.chain_kind[topology.res_chain] != "ligand"
    chain_ids = [quoted(chain) for chain in topology.chain_id]
    add_raw_table(
        block,
        "_ma_qa_metric_local",
        {
            "ordinal_id": [str(i) for i in range(1, len(present) + 1)],
            "model_id": ["1"] * len(present),
            "label_asym_id": [chain_ids[i] for i in topology.res_chain[present].tolist()],
            "label_seq_id": [str(topology.res_id[i]) if polymer[i] else "." for i in present.tolist()],
            "label_comp_id": [quoted(name) for name in topology.res_name[present].tolist()],
            "metric_id": ["2"] * len(present),
            "metric_value": fixed(mean[present], 2),
        },
    )
