"""The AlphaFold 3-class network (AF3 SI Alg. 1): trunk, diffusion module, heads.

The loops over passes, steps and samples belong to the engine and the sampler.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from foldline.layers.atoms import AtomConditions, Atoms
from foldline.layers.primitives import LayerNorm, Linear
from foldline.layers.relative import Positions, RelativePositionEncoding
from foldline.models import build
from foldline.models.batch import Batch
from foldline.models.spec import ModelSpec
from foldline.ops import Ops, row_blocks
from foldline.shapes import PairRows


class Trunk(nn.Module):
    """Input embedder, recycling, templates, MSA module and pairformer (AF3 SI Alg. 1, lines 1-14)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.c_z = spec.c_z
        self.input_encoder = build.input_encoder(spec)
        self.s_init = Linear(spec.c_s_inputs, spec.c_s)
        self.z_init_left = Linear(spec.c_s, spec.c_z)
        self.z_init_right = Linear(spec.c_s, spec.c_z)
        self.relative = RelativePositionEncoding(spec.c_z, spec.r_max, spec.s_max)
        self.bond = Linear(1, spec.c_z)
        self.norm_z = LayerNorm(spec.c_z)
        self.recycle_z = Linear(spec.c_z, spec.c_z)
        self.norm_s = LayerNorm(spec.c_s)
        self.recycle_s = Linear(spec.c_s, spec.c_s)
        self.template_embedder = build.template_embedder(spec)
        self.msa_module = build.msa_module(spec)
        self.pairformer = build.pairformer(spec, spec.n_pairformer)

    def embed_inputs(self, batch: Batch, ops: Ops) -> Tensor:
        """Input single representation s_inputs [*b, N_token, c_s_inputs] (AF3 SI Alg. 2), in the encoder's dtype."""
        encoder = self.input_encoder
        c, conditions = encoder.condition(batch.atoms, None, None, [encoder.transformer], ops)
        a, _ = encoder(batch.atoms, c, conditions[0], None, batch.n_token, ops)
        restype = nn.functional.one_hot(batch.restype, batch.profile.shape[-1]).to(a.dtype)
        columns = [restype, batch.profile.to(a.dtype), batch.deletion_mean[..., None].to(a.dtype)]
        return torch.cat([a, *(x.expand(*a.shape[:-1], -1) for x in columns)], dim=-1)

    def start(self, batch: Batch, s_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Zero s [*b, N_token, c_s] and z [*b, N_token, N_token, c_z], as before the first pass.

        Both have the dtype and the leading axes of `s_inputs`.
        """
        lead, n = s_inputs.shape[:-1], batch.n_token
        return s_inputs.new_zeros(*lead, self.recycle_s.weight.shape[0]), s_inputs.new_zeros(*lead, n, self.c_z)

    def recycle(
        self, batch: Batch, s_inputs: Tensor, s: Tensor, z: Tensor, ops: Ops, dropout: "Dropout | None" = None
    ) -> None:
        """s = s_init + W LN(s), z = z_init + W LN(z), in place (AF3 SI Alg. 1, lines 2-5, 8, 11), no z_init is held."""
        s_init = self.s_init(s_inputs)
        left, right = self.z_init_left(s_init), self.z_init_right(s_init)
        n = batch.n_token
        pair = z.view(-1, n, n, self.c_z)
        for i in row_blocks(n, n * len(pair), ops.rows.point):
            update = self.recycle_z(self.norm_z(z[..., i, :, :]))
            z[..., i, :, :] = update if dropout is None else dropout(update, i.start)
            z[..., i, :, :] += left[..., i, None, :] + right[..., None, :, :] + self.relative(batch.position, i)
        bond = batch.bond_weight[..., None].to(z.dtype) * self.bond.weight[:, 0]
        lane = torch.arange(len(pair), device=z.device)[:, None]
        pair.index_put_((lane, *batch.bonds), bond.expand(len(pair), *bond.shape[-2:]), accumulate=True)
        s.copy_(s_init + self.recycle_s(self.norm_s(s)))

    def forward(
        self,
        batch: Batch,
        s_inputs: Tensor,
        s: Tensor,
        z: Tensor,
        msa_rows: Tensor,
        ops: Ops,
        dropout: "Dropout | None" = None,
    ) -> None:
        """One pass (AF3 SI Alg. 1, lines 7-13), in place on s and z.

        Args:
            batch: the job, or several seeds and jobs along a leading axis.
            s_inputs: [*b, N_token, c_s_inputs].
            s: [*b, N_token, c_s] of the previous pass.
            z: [*b, N_token, N_token, c_z] of the previous pass.
            msa_rows: rows of `batch.msa` of this pass, int64 [N_msa_drawn], or [*b, N_msa_drawn] with -1 for padding.
            ops: implementations.
            dropout: Monte Carlo dropout on the recycled pair, None = off (Protenix option).
        """
        self.recycle(batch, s_inputs, s, z, ops, dropout)
        if self.template_embedder is not None:
            self.template_embedder(z, batch.templates, batch.position.asym_id, batch.token_mask, ops)
        self.update(batch, s_inputs, s, z, msa_rows, ops)

    def update(self, batch: Batch, s_inputs: Tensor, s: Tensor, z: Tensor, msa_rows: Tensor, ops: Ops) -> None:
        """What follows the templates in a pass: MSA module and pairformer, in place (lines 10, 12)."""
        row_mask = msa_rows >= 0 if msa_rows.dim() > 1 else None
        drawn = msa_rows.clamp(min=0)
        m = self.msa_module.embed(batch.msa[drawn], batch.deletions[drawn], s_inputs, ops)
        self.msa_module(m, z, row_mask, batch.token_mask, ops)
        del m
        self.pairformer(s, z, batch.token_mask, ops)


class Dropout:
    """Monte Carlo dropout of the recycled pair.

    Drawn on the CPU for the true tokens of every lane alone, row by row, so that neither row blocks nor padding nor
    other lanes change it. `lanes` holds a generator and the true number of tokens for each.
    """

    def __init__(self, rate: float, *lanes: tuple[torch.Generator, int]) -> None:
        self.rate, self.lanes = rate, lanes

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """Drop single channels of the rows x [*b, N_row, N_token, c_z] from row `first` on and rescale the others."""
        keep = torch.ones(x.shape, dtype=torch.bool)
        for (generator, n_token), rows in zip(self.lanes, keep.view(-1, *x.shape[-3:]), strict=True):
            for row in rows[: max(0, n_token - first), :n_token]:
                row[:] = torch.rand(row.shape, generator=generator) >= self.rate
        return x * keep.to(x.device) / (1 - self.rate)


class Invariants(NamedTuple):
    """What the diffusion steps of one trunk result share."""

    s: Tensor  # [*b, N_token, c_s], single conditioning without noise
    z: Tensor | None  # [*b, N_token, N_token, c_z], pair conditioning; None where the biases are kept
    biases: list[Tensor] | None  # attention biases of all blocks, or None to make them at each step
    c: Tensor  # [*b, 1, N_atom, c_atom]
    encoder: AtomConditions
    decoder: AtomConditions
    atoms: Atoms


class DiffusionModule(nn.Module):
    """Denoiser (AF3 SI Alg. 20)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.sigma_data = spec.sigma_data
        self.conditioning = build.diffusion_conditioning(spec)
        self.encoder = build.diffusion_encoder(spec)
        self.norm_s = LayerNorm(spec.c_s, offset=False)
        self.s = Linear(spec.c_s, spec.c_token)
        self.transformer = build.diffusion_transformer(spec)
        self.norm_a = LayerNorm(spec.c_token, offset=False)
        self.decoder = build.diffusion_decoder(spec)

    def prepare(
        self, batch: Batch, s_inputs: Tensor, s_trunk: Tensor, z_trunk: Tensor | PairRows, keep_biases: bool, ops: Ops
    ) -> Invariants:
        """Everything that does not change between steps, in the module's own dtype.

        Args:
            batch: the job, or several seeds and jobs along a leading axis.
            s_inputs: [*b, N_token, c_s_inputs].
            s_trunk: [*b, N_token, c_s].
            z_trunk: [*b, N_token, N_token, c_z], read row by row; may rest elsewhere.
            keep_biases: hold the attention biases of all blocks (n_block n_head N_token^2), not z (c_z N_token^2).
            ops: implementations.
        """
        dtype = self.s.weight.dtype
        s_inputs, s_trunk = s_inputs.to(dtype), s_trunk.to(dtype)
        position = Positions(*(x.expand(*z_trunk.shape[:-3], -1) for x in batch.position))
        z = self.conditioning.pair(z_trunk, position, dtype, ops)
        transformers = [self.encoder.transformer, self.decoder.transformer]
        c, (encoder, decoder) = self.encoder.condition(batch.atoms, s_trunk, z, transformers, ops)
        biases = self.transformer.biases(z, batch.token_mask, ops) if keep_biases else None
        return Invariants(
            s=self.conditioning.single_base(s_trunk, s_inputs),
            z=None if keep_biases else z,
            biases=biases,
            c=c.unsqueeze(-3),
            encoder=encoder.for_samples(),
            decoder=decoder.for_samples(),
            atoms=batch.atoms.for_samples(),
        )

    def forward(self, x_noisy: Tensor, t_hat: Tensor, fixed: Invariants, mask: Tensor | None, ops: Ops) -> Tensor:
        """Denoised positions [*b, N_sample, N_atom, 3] in Å, float32.

        Args:
            x_noisy: [*b, N_sample, N_atom, 3], float32, Å.
            t_hat: noise level [], float32, Å.
            fixed: step invariants.
            mask: token mask [*b, N_token] or None.
            ops: implementations.
        """
        dtype = self.s.weight.dtype
        r = x_noisy / torch.sqrt(self.sigma_data**2 + t_hat**2)
        s = self.conditioning.single(fixed.s, t_hat.to(dtype), ops).unsqueeze(-3)
        a, q = self.encoder(fixed.atoms, fixed.c, fixed.encoder, r, s.shape[-2], ops)
        a += self.s(self.norm_s(s))
        self.transformer(a, s, fixed.z, mask, fixed.biases, ops)
        r = self.decoder(self.norm_a(a), q, fixed.atoms.to_token, fixed.decoder, ops)
        ratio = t_hat / self.sigma_data
        return x_noisy / (1 + ratio**2) + t_hat / torch.sqrt(1 + ratio**2) * r


class Network(nn.Module):
    """Trunk, diffusion module, distogram head and confidence head of one checkpoint."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = Trunk(spec)
        self.diffusion = DiffusionModule(spec)
        self.distogram = build.distogram_head(spec)
        self.confidence = build.confidence_head(spec)
