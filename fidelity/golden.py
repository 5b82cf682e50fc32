"""Small recorded values of an upstream run, so that the network is held to upstream where upstream is not installed.

python -m fidelity.golden RECORD OUT    from an upstream_side.py record (small_v1, 2 passes, templates)
"""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fidelity.records import Record
from foldline.sampler import Tape
from foldline.tensors import Features


def probes(result: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The part of every tensor that is recorded."""
    steps = {"s_inputs": (5,), "s": (4,), "z": (13, 11), "contact_probs": (3, 5), "coordinates": (3,), "denoised": (5,)}
    steps |= {"pae": (13, 11), "plddt": (17,)}
    return {k: v[tuple(slice(None, None, step) for step in steps[k])].numpy() for k, v in result.items()}


def upstream_result(record: Record) -> dict[str, Tensor]:
    """What upstream computed, first sample."""
    last = len(record.under("tape.msa_indices")) - 1
    return {
        "s_inputs": record["taps.input_embedder.0.out"],
        "s": record[f"taps.pairformer_stack.{last}.out.0"],
        "z": record[f"taps.pairformer_stack.{last}.out.1"],
        "contact_probs": record["outputs.contact_probs"],
        "denoised": record["taps.diffusion_module.0.out"][0],
        "coordinates": record["outputs.coordinate"][0],
        "pae": record["outputs.pae"][0].softmax(-1),
        "plddt": record["outputs.plddt"][0],
    }


def write(record: Record, path: Path) -> None:
    """Features, the first sample's draws and upstream's values in one compressed file."""
    features, tape = record.features(), record.tape()
    arrays = {f"features.{f.name}": getattr(features, f.name) for f in fields(features)}
    for name, array in tape.arrays.items():
        if name == "x_init":
            array = array[:1]
        elif name in ("rotation", "translation", "noise"):
            array = array[:, :1]
        arrays[f"tape.{name}"] = array
    arrays |= {f"result.{k}": v for k, v in probes(upstream_result(record)).items()}
    arrays["result.x"] = record["outputs.coordinate"][0].numpy()
    np.savez_compressed(path, **arrays)


def read(path: Path) -> tuple[Features, Tape, dict[str, np.ndarray]]:
    """The three parts of a golden file."""
    with np.load(path) as file:
        arrays = {k: file[k] for k in file.files}

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {k[len(prefix) + 1 :]: v for k, v in arrays.items() if k.startswith(prefix + ".")}

    return Features(**part("features")), Tape(0, part("tape")), part("result")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    write(Record(Path(sys.argv[1])), Path(sys.argv[2]))
