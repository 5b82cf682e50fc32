"""Run by the interpreter that has Protenix: choose templates among hmmsearch's rows, write them and what they become.

    upstream_templates.py CASES.json OUT.npz

CASES.json: a list of {"query", "a3m" (rows of hmmsearch), "folder" (mmCIF files), "dates" (release date by entry)}.
OUT.npz: "alignments" (JSON: query, sequence, both rows), and for case i "i.names" (entry_chain), "i.query" and "i.hit"
(JSON lists of indices), "i.positions" [T, L, 37, 3] and "i.mask" of the atoms that "atoms" names, and the features.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from protenix.data.constants import ATOM37
from protenix.data.template.template_featurizer import TemplateFeatureAssemblyLine
from protenix.data.template.template_parser import HmmsearchA3MParser
from protenix.data.template.template_utils import TemplateHitFeaturizer
from protenix.data.tools.kalign import Kalign


def record_alignments(found: list[tuple[str, ...]]) -> None:
    """Make upstream write down what kalign answers."""
    align = Kalign.align

    def recorded(self: Kalign, sequences: list[str]) -> list[str]:
        rows = align(self, sequences)
        found.append((*sequences, *rows))
        return rows

    Kalign.align = recorded


def chosen(case: dict, dates: Path) -> dict[str, np.ndarray]:
    """Upstream's templates of a case, with its settings for inference (data/inference/infer_dataloader.py:102-116)."""
    query = case["query"]
    dates.write_text(json.dumps({entry: {"release_date": day} for entry, day in case["dates"].items()}))
    featurizer = TemplateHitFeaturizer(
        mmcif_dir=case["folder"],
        template_cache_dir="",
        max_hits=4,
        kalign_binary_path="/usr/bin/kalign",
        max_template_date="2021-09-30",
        release_dates_path=str(dates),
        obsolete_pdbs_path="",
        _max_template_candidates_num=20,
    )
    hits = HmmsearchA3MParser.parse(query_seq=query, a3m_str=case["a3m"], skip_first=False)
    result, _ = featurizer.get_templates(query, query, hits)
    info = {"chain_id": "A", "entity_id": 0, "sequence": query, "chain_entity_type": "polypeptide(L)"}
    line = TemplateFeatureAssemblyLine(max_templates=4)
    features = line.assemble({0: info | {"templates": result.features}}, np.arange(len(query))).as_protenix_dict()
    pairs = [[(i, j) for i, j in zip(hit.indices_query, hit.indices_hit, strict=True) if j >= 0] for hit in result.hits]
    empty = np.zeros((0, len(query), 37, 3), np.float32)
    positions = [one["template_all_atom_positions"] for one in result.features]
    masks = [one["template_all_atom_masks"] for one in result.features]
    return {
        "names": np.array([str(one["template_domain_names"].item().decode()) for one in result.features], str),
        "query": np.array(json.dumps([[i for i, _ in one] for one in pairs])),
        "hit": np.array(json.dumps([[j for _, j in one] for one in pairs])),
        "positions": np.array(positions, np.float32) if positions else empty,
        "mask": np.array(masks, bool) if masks else empty[..., 0].astype(bool),
        **{name: np.asarray(value) for name, value in features.items()},
    }


def main() -> None:
    """Choose for all cases."""
    cases, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    alignments: list[tuple[str, ...]] = []
    record_alignments(alignments)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(cases):
            dates = Path(folder) / f"{i}.json"
            found |= {f"{i}.{name}": value for name, value in chosen(case, dates).items()}
    np.savez_compressed(out, atoms=np.array(ATOM37), alignments=json.dumps(alignments), **found)


if __name__ == "__main__":
    main()
