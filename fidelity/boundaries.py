"""The whole way through, with upstream's draws: every module boundary of every pass, step and sample."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fidelity.records import Difference, Record, difference
from foldline.models import Batch, Network
from foldline.ops import Ops
from foldline.sampler import Tape, sample


def compare_trunk(
    record: Record, network: Network, batch: Batch, tape: Tape, ops: Ops, result: dict[str, Tensor]
) -> Iterator[Difference]:
    """Input embedder, then templates, MSA module and pairformer of every recorded pass."""
    trunk = network.trunk
    s_inputs = trunk.embed_inputs(batch, ops)
    n = batch.n_token
    real = int(batch.token_mask.sum()) if batch.token_mask is not None else n
    yield difference("input_embedder", s_inputs[:real], record["taps.input_embedder.0.out"])
    s, z = trunk.start(batch, s_inputs)
    last = len(record.under("tape.msa_indices"))
    for i in range(last):
        trunk.recycle(batch, s_inputs, s, z, ops)
        if trunk.template_embedder is not None:
            before = z.clone()
            trunk.template_embedder(z, batch.templates, batch.position.asym_id, batch.token_mask, ops)
            if f"taps.template_embedder.{i}.out" in record.tensors:
                update = (z - before)[:real, :real]
                yield difference(f"template_embedder, pass {i}", update, record[f"taps.template_embedder.{i}.out"])
        rows = tape.msa_rows(i, len(batch.msa))
        m = trunk.msa_module.embed(batch.msa[rows], batch.deletions[rows], s_inputs, ops)
        trunk.msa_module(m, z, None, batch.token_mask, ops)
        if f"taps.msa_module.{i}.out" in record.tensors:
            yield difference(f"msa_module, pass {i}", z[:real, :real], record[f"taps.msa_module.{i}.out"])
        yield from _pairformer(record, network, batch, (s, z), i, real, ops)
    yield difference("contact_probs", network.distogram(z, ops)[:real, :real], record["outputs.contact_probs"])
    result.update(s_inputs=s_inputs, s=s, z=z)


def _pairformer(
    record: Record, network: Network, batch: Batch, sz: tuple[Tensor, Tensor], i: int, real: int, ops: Ops
) -> Iterator[Difference]:
    """Blocks whose outputs were recorded, and the stack."""
    s, z = sz
    for number, block in enumerate(network.trunk.pairformer.blocks):
        block(s, z, batch.token_mask, ops)
        name = f"taps.pairformer_stack.blocks.{number}.{i}.out"
        if f"{name}.0" in record.tensors and number in (0, 1, 2, 10, 47):
            yield difference(f"pairformer block {number}, s, pass {i}", s[:real], record[f"{name}.0"])
            yield difference(f"pairformer block {number}, z, pass {i}", z[:real, :real], record[f"{name}.1"])
    name = f"taps.pairformer_stack.{i}.out"
    if f"{name}.0" in record.tensors:
        yield difference(f"pairformer_stack, s, pass {i}", s[:real], record[f"{name}.0"])
        yield difference(f"pairformer_stack, z, pass {i}", z[:real, :real], record[f"{name}.1"])


def compare_diffusion(
    record: Record, network: Network, batch: Batch, tape: Tape, ops: Ops, result: dict[str, Tensor]
) -> Iterator[Difference]:
    """Conditioning, the first denoising steps and the final coordinates."""
    keep_biases = len(record["outputs.coordinate"]) > 1
    diffusion = network.diffusion
    fixed = diffusion.prepare(batch, result["s_inputs"], result["s"], result["z"], keep_biases, ops)
    outputs: list[Tensor] = []

    def denoise(x: Tensor, t_hat: Tensor) -> Tensor:
        outputs.append(diffusion(x, t_hat, fixed, batch.token_mask, ops))
        return outputs[-1]

    n_sample, real = record["outputs.coordinate"].shape[:2]
    mask = batch.atoms.mask
    mask = torch.ones(len(batch.atoms.to_token), dtype=torch.bool) if mask is None else mask
    steps = len(tape.arrays["rotation"])
    x = sample(denoise, network.spec, tape.samples(range(n_sample)), mask, n_step=steps)
    for i, ours in enumerate(outputs[:3]):
        if f"taps.diffusion_module.{i}.out" in record.tensors:
            yield difference(f"diffusion_module, step {i}", ours[:, :real], record[f"taps.diffusion_module.{i}.out"])
    yield difference("coordinates", x[:, :real], record["outputs.coordinate"])
    result["x"] = x


def compare_confidence(
    record: Record, network: Network, batch: Batch, ops: Ops, result: dict[str, Tensor]
) -> Iterator[Difference]:
    """Confidence heads from upstream's own trunk-equal pair and upstream's coordinates."""
    head = network.confidence
    theirs = record["outputs.coordinate"]
    n_atom = len(batch.atoms.to_token)
    real = int(batch.token_mask.sum()) if batch.token_mask is not None else batch.n_token
    for i in range(len(theirs)):
        x = torch.nn.functional.pad(theirs[i], (0, 0, 0, n_atom - theirs.shape[1]))
        pair = torch.empty_like(result["z"])
        head.embed(result["z"], result["s_inputs"], x[batch.rep_atom], pair, ops)
        single = head(result["s"], pair, batch.token_mask, ops)
        rows = list(head.error_rows(pair, ops))
        pae = torch.cat([block.pae for block in rows])[:real, :real]
        pde = torch.cat([block.pde for block in rows])[:real, :real]
        yield difference(f"PAE probabilities, sample {i}", pae, record["outputs.pae"][i].softmax(-1))
        yield difference(f"PDE probabilities, sample {i}", pde, record["outputs.pde"][i].softmax(-1))
        slots = batch.atoms.to_token, batch.atom_in_token
        plddt = head._per_atom(single, head.norm_plddt, head.plddt, *slots)[: theirs.shape[1]]
        resolved = head.atom_resolved(single, *slots)[: theirs.shape[1]]
        yield difference(f"pLDDT logits, sample {i}", plddt, record["outputs.plddt"][i])
        yield difference(f"resolved logits, sample {i}", resolved, record["outputs.resolved"][i])
