"""Run by the interpreter that has Protenix: featurise one of its jobs, write the arrays that its network reads as npz.

    upstream_features.py PROTENIX_JOB OUT.npz [--templates] [--dates FILE] [--time N] [--serve]

Beside the features: the atoms of all components with their reference conformers before posing (to inject into ours) and
the template alignments that it made. With --time only the seconds of N featurisations are written. With --serve every
line of standard input, job and output with a tab between, is answered by a line, "ok" or the reason why not, and what
Protenix draws at random among leaving groups is what Foldline takes: the first, along a chain that of OXT or OP3.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time
import traceback
from copy import deepcopy

import numpy as np
import torch
from biotite.structure import AtomArray
from configs.configs_base import configs as base_configs
from configs.configs_data import data_configs
from configs.configs_inference import inference_configs
from configs.configs_model_type import model_configs
from protenix.config.config import parse_configs
from protenix.data.core import ccd
from protenix.data.inference import json_parser
from protenix.data.inference.infer_dataloader import InferenceDataset
from protenix.data.inference.json_to_feature import SampleDictToFeatures
from protenix.data.template.template_parser import MmcifObject
from protenix.data.template.template_utils import TemplateHitProcessor
from protenix.utils.seed import seed_everything

MODEL = "protenix_base_default_v1.0.0"
TOKEN = ("token_index", "residue_index", "asym_id", "entity_id", "sym_id", "profile", "deletion_mean", "has_frame")
ATOM = ("ref_pos", "ref_mask", "ref_charge", "ref_space_uid", "atom_to_token_idx", "atom_to_tokatom_idx", "is_ligand")
ROWS = ("msa", "has_deletion", "deletion_value", "distogram_rep_atom_mask", "template_aatype")
PAIRS = (
    "template_pseudo_beta_mask",
    "template_backbone_frame_mask",
    "template_distogram",
    "template_unit_vector",
)
FAILURES = (AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
ONE_HOT = ("restype", "ref_element", "ref_atom_name_chars")


def merged(into: dict, extra: dict) -> dict:
    """`into` with `extra` over it, key by key."""
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(into.get(key), dict)
        into[key] = merged(into[key], value) if both else value
    return into


def dataset(job: pathlib.Path, templates: bool, dates: str | None) -> InferenceDataset:
    """Upstream's data set of one job file, as its runner configures it."""
    known = {**base_configs, "data": data_configs, **inference_configs}
    known = merged(deepcopy(known), deepcopy(model_configs[MODEL]))
    options = f"--model_name {MODEL} --use_msa true --use_rna_msa true --use_template {str(templates).lower()}"
    if dates:
        options += f" --data.template.release_dates_path {dates}"
    configs = parse_configs(configs=known, arg_str=options, fill_required_with_null=True)
    configs.input_json_path, configs.dump_dir = str(job), tempfile.gettempdir()
    return InferenceDataset(configs)


def record_alignments(found: list[dict]) -> None:
    """Make upstream's template processor write down every alignment that it makes."""
    align = TemplateHitProcessor._align_query_to_hit_index_mapping

    def recorded(
        self: TemplateHitProcessor, query: str, chain: str, structure: MmcifObject, min_ratio: float
    ) -> tuple[str, dict[int, int], str]:
        result = align(self, query, chain, structure, min_ratio)
        pairs = result[1]
        found.append({"entry": structure.file_id, "query": list(pairs), "hit": list(pairs.values())})
        return result

    TemplateHitProcessor._align_query_to_hit_index_mapping = recorded


def record_components(found: dict[str, np.ndarray]) -> None:
    """Make upstream write down residue and atom names before it turns selenomethionine into methionine."""
    rename = SampleDictToFeatures.mse_to_met

    def recorded(atoms: AtomArray) -> AtomArray:
        found["component.code"], found["component.atom"] = atoms.res_name.copy(), atoms.atom_name.copy()
        return rename(atoms)

    SampleDictToFeatures.mse_to_met = staticmethod(recorded)


def arrays_of(features: dict, atoms: AtomArray) -> dict[str, np.ndarray]:
    """Arrays to save: one-hots as classes, bonds as entries, atoms before posing; no template pairs that are zero."""
    out = {name: features[name].numpy() for name in (*TOKEN, *ATOM, *ROWS, *PAIRS)}
    out |= {name: features[name].argmax(-1).numpy() for name in ONE_HOT}
    out["token_bonds"] = np.argwhere(features["token_bonds"].numpy() > 0)
    out["component.chain"] = np.asarray(atoms.chain_id).astype(str)
    out |= {f"component.{name}": np.asarray(getattr(atoms, name)) for name in ("ref_pos", "ref_mask", "ref_charge")}
    out = {name: array for name, array in out.items() if name not in PAIRS or array.any()}
    return {name: array.astype(np.float32) if array.dtype == float else array for name, array in out.items()}


class FirstGroups:
    """Stands in the place of the module `random` where leaving groups are drawn."""

    along_chain = False

    @classmethod
    def sample(cls, groups: list[list[str]], count: int) -> list[list[str]]:
        """The first groups, in the order of the component's atoms."""
        return sorted(groups, key=lambda group: cls.along_chain and not {"OXT", "OP3"} & set(group))[:count]


def take_first_groups() -> None:
    """Make upstream choose leaving groups as Foldline does."""
    find, build = ccd._map_central_to_leaving_groups, json_parser._build_polymer_atom_array

    def in_order(component: AtomArray) -> dict[str, list[list[str]]] | None:
        place = {name: index for index, name in enumerate(component.atom_name.tolist())}
        groups = find(component)
        return groups and {
            atom: sorted(of, key=lambda group: min(place[name] for name in group)) for atom, of in groups.items()
        }

    def along_chain(codes: list[str]) -> AtomArray:
        FirstGroups.along_chain = True
        try:
            return build(codes)
        finally:
            FirstGroups.along_chain = False

    ccd._map_central_to_leaving_groups, json_parser._build_polymer_atom_array = in_order, along_chain
    json_parser.random = FirstGroups


def serve(data: InferenceDataset, names: dict[str, np.ndarray]) -> None:
    """Featurise the jobs named on standard input, which is taken from the programs that upstream starts."""
    take_first_groups()
    lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for line in lines:
        job, out = line.rstrip("\n").split("\t")
        names.clear()
        seed_everything(seed=7, deterministic=False)
        try:
            result, atoms, _ = data.process_one(json.loads(pathlib.Path(job).read_text())[0])
            np.savez(out, **arrays_of(result["input_feature_dict"], atoms), **names)
            said = "ok"
        except FAILURES as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} at {pathlib.Path(place.filename).name}:{place.lineno}: {error}"
        answers.write(" ".join(said.split())[:300] + "\n")
        answers.flush()


def main() -> None:
    """Featurise, save, time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--templates", action="store_true")
    parser.add_argument("--dates", help="JSON file of release dates of template entries")
    parser.add_argument("--time", type=int, default=0)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    alignments: list[dict] = []
    names: dict[str, np.ndarray] = {}
    record_alignments(alignments)
    record_components(names)
    data = dataset(given.job, given.templates, given.dates)
    if given.serve:
        serve(data, names)
        return
    seconds = []
    for _ in range(max(given.time, 1)):
        seed_everything(seed=7, deterministic=False)
        start = time.perf_counter()
        result, atoms, _ = data.process_one(deepcopy(data.inputs[0]))
        seconds.append(time.perf_counter() - start)
    arrays = {} if given.time else arrays_of(result["input_feature_dict"], atoms) | names
    np.savez_compressed(given.out, templates=json.dumps(alignments), seconds=np.array(seconds), **arrays)


if __name__ == "__main__":
    main()
