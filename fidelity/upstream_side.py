"""Run upstream Protenix on one job and record features, draws, module inputs and outputs, and results.

Runs inside upstream's own environment (scripts/upstream-env); writes one file of plain tensors that our side reads:
  features.*  the arrays before the forward pass    templates.*  positions that template features were made from
  tape.*      every random draw                      taps.<module>.<call>.{args,kwargs,out}.*   inputs and outputs
  outputs.*   coordinates, logits, summaries
"""

import argparse
import contextlib
import functools
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--reference", required=True, help="folder with ref_common.py")
parser.add_argument("--preset", default="small_v1")
parser.add_argument("--job", required=True)
parser.add_argument("--base", help="folder that the job's paths are relative to (default: the job's own)")
parser.add_argument("--out", required=True)
parser.add_argument("--set", default="--model.N_cycle 2 --sample_diffusion.N_step 4 --sample_diffusion.N_sample 2")
parser.add_argument("--taps", default="boundaries", choices=["none", "boundaries", "modules"])
parser.add_argument("--template", action="store_true", help="upstream's own template search results")
parser.add_argument("--synthetic-templates", action="store_true", help="two made-up templates in place of found ones")
parser.add_argument("--weights", help="also write a checkpoint in upstream's format here")
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--bf16", action="store_true", help="CPU autocast in place of upstream's CUDA autocast")
parser.add_argument("--time", action="store_true", help="time the trunk pass and single diffusion steps, print JSON")
args = parser.parse_args()

for path in ("reference", "job", "out", "weights"):
    if getattr(args, path):
        setattr(args, path, str(Path(getattr(args, path)).resolve()))
sys.path.insert(0, args.reference)
os.chdir(args.base or Path(args.job).parent)

import numpy as np  # noqa: E402
import ref_common as ref  # noqa: E402
import torch  # noqa: E402
from protenix.data.template import template_featurizer as tf  # noqa: E402
from protenix.data.template import template_utils as tu  # noqa: E402

Store = dict[str, torch.Tensor]

torch.set_num_threads(args.threads)
torch.cdist = functools.partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")  # exact differences


def redirect_autocast() -> None:
    """Make every autocast context that names "cuda" act on the CPU, so that bf16 means here what it means there."""
    original = torch.amp.autocast

    class OnCpu(original):
        def __init__(self, *a: object, device_type: str = "", **k: object) -> None:
            super().__init__("cpu", *a[1:], **k)

    torch.amp.autocast = torch.autocast = OnCpu
    torch.cuda.amp.autocast = lambda *a, **k: OnCpu("cpu", *a, **k)


BOUNDARIES = (
    "input_embedder",
    "template_embedder",
    "msa_module",
    "pairformer_stack",
    "diffusion_module",
    "diffusion_module.diffusion_conditioning",
    "diffusion_module.atom_attention_encoder",
    "diffusion_module.diffusion_transformer",
    "diffusion_module.atom_attention_decoder",
    "distogram_head",
    "confidence_head.pairformer_stack",
)
KINDS = (
    "TriangleMultiplicationOutgoing",
    "TriangleMultiplicationIncoming",
    "TriangleAttention",
    "Transition",
    "OuterProductMean",
    "MSAPairWeightedAveraging",
    "AttentionPairBias",
    "DiffusionTransformerBlock",
    "RelativePositionEncoding",
    "PairformerBlock",
    "MSABlock",
)
SKIP = ("diffusion_transformer.blocks",)  # attention inside conditioned blocks is compared as part of its block


def tensors(value: object, prefix: str, store: Store) -> None:
    """Flatten nested values into named tensors, copied."""
    if torch.is_tensor(value):
        store[prefix] = value.detach().clone()
    elif isinstance(value, (list, tuple)):
        for i, x in enumerate(value):
            tensors(x, f"{prefix}.{i}", store)
    elif isinstance(value, dict):
        for k, x in value.items():
            tensors(x, f"{prefix}.{k}", store)


def attach(model: torch.nn.Module, store: Store) -> None:
    """Record the first calls of every boundary and, on request, inputs and outputs of every module with weights."""
    calls = {}
    for name, module in model.named_modules():
        boundary = name in BOUNDARIES or (name.count(".") == 2 and ".blocks." in name and name.startswith("pairformer"))
        single = args.taps == "modules" and type(module).__name__ in KINDS
        if single and type(module).__name__ == "AttentionPairBias" and any(s in name for s in SKIP):
            single = False
        if not (boundary or single):
            continue

        module.register_forward_pre_hook(functools.partial(record_inputs, name, single, calls, store), with_kwargs=True)
        module.register_forward_hook(functools.partial(record_output, name, boundary, calls, store))


def record_inputs(
    name: str, wanted: bool, calls: dict[str, int], store: Store, _module: object, a: tuple, k: dict
) -> None:
    """Count the call; keep its inputs when it is the first."""
    calls[name] = calls.get(name, -1) + 1
    if wanted and calls[name] == 0:
        tensors(list(a), f"taps.{name}.0.args", store)
        tensors(k, f"taps.{name}.0.kwargs", store)


def record_output(
    name: str, boundary: bool, calls: dict[str, int], store: Store, _module: object, _a: tuple, out: object
) -> None:
    """Keep the output of the first call, or of the first three at a boundary."""
    if calls[name] < (3 if boundary else 1):
        tensors(out, f"taps.{name}.{calls[name]}.out", store)


def template_positions(features: Store, store: Store) -> None:
    """Positions that the template features were made from, with upstream's own index tables."""
    aatype = features["template_aatype"].numpy()
    mask = features["template_atom_mask"].numpy()
    position = features["template_atom_positions"].numpy() * mask[..., None]
    for i in range(len(aatype)):
        beta, beta_mask = tu.TemplateFeatures.pseudo_beta_fn(aatype[i], position[i], mask[i])
        atoms = tu.RESTYPE_RIGIDGROUP_DENSE_ATOM_IDX[aatype[i], 0]
        rows = np.arange(len(aatype[i]))
        c, ca, n = (position[i][rows, atoms[:, k]] for k in range(3))
        c_mask, ca_mask, n_mask = (mask[i][rows, atoms[:, k]] for k in range(3))
        store[f"templates.{i}.pseudo_beta"] = torch.from_numpy(np.ascontiguousarray(beta, dtype=np.float32))
        store[f"templates.{i}.pseudo_beta_mask"] = torch.from_numpy(beta_mask > 0)
        store[f"templates.{i}.backbone"] = torch.from_numpy(np.stack([n, ca, c], 1).astype(np.float32))
        store[f"templates.{i}.backbone_mask"] = torch.from_numpy((c_mask * ca_mask * n_mask) > 0)


def time_steps(model: torch.nn.Module, call: dict, trunk_seconds: float) -> dict[str, float]:
    """Seconds of the trunk pass and of one denoising step of five samples and of one, repeated from a recorded call."""
    found = {"trunk pass": trunk_seconds}
    for n, label in ((5, "diffusion step, 5 samples"), (1, "diffusion step, 1 sample")):
        inputs = call | {"x_noisy": call["x_noisy"][:n], "t_hat_noise_level": call["t_hat_noise_level"][:n]}
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            with torch.no_grad():
                model.diffusion_module(**inputs)
            best = min(best, time.perf_counter() - start)
        found[label] = best
    return found


def synthetic_templates(features: Store) -> Store:
    """Two made-up templates over parts of the polymers and two empty slots, through upstream's own feature code."""
    rng = np.random.default_rng(5)
    aatype = features["template_aatype"].numpy().copy()
    restype = features["restype"].numpy().argmax(-1)
    n_token = aatype.shape[1]
    position = np.zeros((4, n_token, 24, 3), np.float32)
    mask = np.zeros((4, n_token, 24), bool)
    walk = np.cumsum(rng.normal(0, 2.2, (n_token, 3)), 0)
    for slot in range(2):
        covered = (restype < 20) & (rng.random(n_token) < 0.8)
        aatype[slot] = np.where(covered, restype, 31)
        position[slot] = walk[:, None] + rng.normal(0, 1.5, (n_token, 24, 3))
        mask[slot] = covered[:, None] & (rng.random((n_token, 24)) < 0.95)
    made = tf.Templates(aatype=aatype, atom_positions=position, atom_mask=mask).as_protenix_dict()
    return {k: torch.from_numpy(np.asarray(v)).to(features[k].dtype) for k, v in made.items()}


def main() -> None:
    """Featurise, run, record."""
    store: Store = {}
    sets = f"{args.set} --use_msa True --use_rna_msa True --use_template {args.template}"
    if args.taps == "modules":
        sets += " --enable_efficient_fusion False"
    configs = ref.build_configs(args.preset, sets)
    if args.bf16:
        redirect_autocast()
        configs.dtype = "bf16"
    data, _, _ = ref.featurize(configs, args.job, 0, args.seed)
    features = data["input_feature_dict"]
    if args.synthetic_templates:
        features.update(synthetic_templates(features))
    tensors(features, "features", store)
    template_positions(features, store)
    model = ref.build_model(configs)
    if args.weights:
        torch.save({"model": {"module." + k: v for k, v in model.state_dict().items()}}, args.weights)
    if args.taps != "none":
        attach(model, store)
    call: dict = {}
    if args.time:
        model.diffusion_module.register_forward_pre_hook(lambda _m, _a, k: call.update(k), with_kwargs=True)
    tape = ref.Tape()
    context = torch.autocast("cpu", dtype=torch.bfloat16) if args.bf16 else contextlib.nullcontext()
    with context:
        prediction, _, log = ref.forward(model, features, args.seed, tape=tape)
    tensors(tape.to_dict(), "tape", store)
    for key in ("coordinate", "contact_probs", "plddt", "pae", "pde", "resolved"):
        store[f"outputs.{key}"] = prediction[key].detach().clone()
    tensors(dict(enumerate(prediction["summary_confidence"])), "outputs.summary", store)
    torch.save(store, args.out)
    if args.time:
        print(json.dumps(time_steps(model, call, log["time"]["pairformer"])))
    print("seconds", dict(log["time"]))


main()
