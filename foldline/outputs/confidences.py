"""AlphaFold 3's two confidence files of a sample. Knows the file format, not how a score is computed.

Sources: AlphaFold 3, model/confidence_types.py:140-245 (summary) and model/json_serialize_pybind.cc (full arrays).
`pae[i][j]` is the error of token j in the frame of token i.
"""

import json
import math
from collections.abc import Iterator

import numpy as np

from foldline.outputs.decimals import json_array, json_matrix
from foldline.structure.atoms import Topology
from foldline.tensors.results import Confidences

PLDDT_DECIMALS, PLDDT_TOP = 2, 9999
CONTACT_DECIMALS, CONTACT_TOP = 2, 100
PAE_DECIMALS, PAE_TOP = 1, 999


def token_residues(topology: Topology, atom_to_token: np.ndarray) -> np.ndarray:
    """Residue index of every token, int32 [N_token], from the token of every atom [N_atom]."""
    residues = np.full(int(atom_to_token.max(initial=-1)) + 1, -1, np.int32)
    residues[atom_to_token[::-1]] = topology.atom_res[::-1]
    assert (residues >= 0).all(), "a token without an atom"
    return residues


def confidences_json(
    topology: Topology, atom_to_token: np.ndarray, confidences: Confidences, contact_probs: np.ndarray
) -> Iterator[bytes]:
    """`<job>_confidences.json` in pieces, so that 5,120 tokens (250 MB of text) need little memory.

    Keys are sorted, one array per line, no final newline, as AlphaFold 3 writes it.
    """
    residues = token_residues(topology, atom_to_token)
    token_chain, token_res_id = topology.res_chain[residues], topology.res_id[residues]
    yield b'{\n  "atom_chain_ids": ' + _chain_array(topology, topology.atom_chain)
    yield b',\n  "atom_plddts": ' + json_array(confidences.atom_plddt, PLDDT_DECIMALS, PLDDT_TOP)
    yield b',\n  "contact_probs": '
    yield from json_matrix(contact_probs, CONTACT_DECIMALS, CONTACT_TOP)
    yield b',\n  "pae": '
    yield from json_matrix(confidences.pae, PAE_DECIMALS, PAE_TOP)
    yield b',\n  "token_chain_ids": ' + _chain_array(topology, token_chain)
    yield b',\n  "token_res_ids": [' + ",".join(map(str, token_res_id.tolist())).encode() + b"]\n}"


def summary_json(topology: Topology, confidences: Confidences, fraction_disordered: float) -> bytes:
    """`<job>_summary_confidences.json`: sorted keys, two decimals, null for what is undefined.

    The diagonal of `chain_pair_iptm` is the chain's pTM; a lone chain has no ipTM (AF3: model/model.py:453-472).
    `chain_ids` has one entry per chain, as AlphaFold 3 documents (its code writes one per token).
    """
    lone = len(topology.chain_id) == 1
    pair_iptm = np.array(confidences.chain_pair_iptm, np.float64)
    np.fill_diagonal(pair_iptm, confidences.chain_ptm)
    chain_iptm = np.full(1, np.nan) if lone else confidences.chain_iptm
    summary = {
        "chain_ids": [str(chain) for chain in topology.chain_id],
        "chain_iptm": _rounded(chain_iptm),
        "chain_pair_iptm": _rounded(pair_iptm),
        "chain_pair_pae_min": _rounded(confidences.chain_pair_pae_min),
        "chain_ptm": _rounded(confidences.chain_ptm),
        "fraction_disordered": _rounded(fraction_disordered),
        "has_clash": float(confidences.has_clash),
        "iptm": None if lone else _rounded(confidences.iptm),
        "ptm": _rounded(confidences.ptm),
        "ranking_score": _rounded(confidences.ranking_score),
    }
    return json.dumps(summary, sort_keys=True, indent=1, separators=(",", ": "), allow_nan=False).encode()


def _chain_array(topology: Topology, chain: np.ndarray) -> bytes:
    """JSON array of the chain id of every entry of `chain`."""
    names = [json.dumps(str(name)) for name in topology.chain_id]
    return ("[" + ",".join([names[i] for i in chain.tolist()]) + "]").encode()


def _rounded(values: np.ndarray | float) -> list | float | None:
    """Nested lists of the values with two decimals, None where not finite."""

    def plain(value: list | float) -> list | float | None:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value if math.isfinite(value) else None

    return plain((np.round(np.asarray(values, np.float64), 2) + 0.0).tolist())
