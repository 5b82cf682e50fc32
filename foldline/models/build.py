"""From a ModelSpec to modules: the only place where its sizes and switches are read."""

from foldline.layers.atoms import AtomAttentionDecoder, AtomAttentionEncoder
from foldline.layers.diffusion import DiffusionConditioning, DiffusionTransformer
from foldline.layers.heads import ConfidenceHead, DistogramHead
from foldline.layers.msa import MsaBlock, MsaModule, OuterProductMean, PairWeightedAveraging
from foldline.layers.pairformer import PairBlock, PairformerBlock, PairformerStack, Transition
from foldline.layers.template import TemplateEmbedder
from foldline.models.spec import ModelSpec


def pair_block(spec: ModelSpec) -> PairBlock:
    """Pair block of the trunk's width."""
    return PairBlock(
        spec.c_z,
        c_tri_mul=spec.c_tri_mul,
        c_tri_att=spec.c_tri_att,
        n_head=spec.n_head_tri_att,
        n_transition=4,
        bias_transposed=spec.ending_bias_transposed,
    )


def pairformer(spec: ModelSpec, n_block: int) -> PairformerStack:
    """Pairformer stack of `n_block` blocks."""
    return PairformerStack(
        [PairformerBlock(pair_block(spec), spec.c_s, spec.c_z, spec.n_head_single) for _ in range(n_block)]
    )


def msa_module(spec: ModelSpec) -> MsaModule:
    """MSA module; its last block does not update the alignment."""
    blocks = []
    for i in range(spec.n_msa):
        last = i + 1 == spec.n_msa
        pwa = None if last else PairWeightedAveraging(spec.c_m, spec.c_z, spec.n_head_pwa, spec.c_pwa)
        transition = None if last else Transition(spec.c_m, 4)
        blocks.append(MsaBlock(pair_block(spec), OuterProductMean(spec.c_m, spec.c_z, spec.c_opm), pwa, transition))
    return MsaModule(blocks, c_m=spec.c_m, c_s_inputs=spec.c_s_inputs, n_class=spec.n_class)


def template_embedder(spec: ModelSpec) -> TemplateEmbedder | None:
    """Template embedder, None for networks without one."""
    if not spec.n_template:
        return None
    blocks = [
        PairBlock(
            spec.c_template,
            c_tri_mul=spec.c_tri_mul_template,
            c_tri_att=spec.c_tri_att,
            n_head=spec.n_head_tri_att_template,
            n_transition=2,
            bias_transposed=spec.ending_bias_transposed,
        )
        for _ in range(spec.n_template)
    ]
    return TemplateEmbedder(blocks, c_z=spec.c_z, c=spec.c_template, n_class=spec.n_class, n_slot=spec.n_template_slot)


def input_encoder(spec: ModelSpec) -> AtomAttentionEncoder:
    """Atom attention encoder of the input embedder: no coordinates, no trunk."""
    return AtomAttentionEncoder(
        spec.n_atom_input,
        c_atom=spec.c_atom,
        c_atompair=spec.c_atompair,
        c_token=spec.c_s_inputs - 2 * spec.n_class - 1,
        n_head=spec.n_head_atom,
        n_element=spec.n_element,
    )


def diffusion_encoder(spec: ModelSpec) -> AtomAttentionEncoder:
    """Atom attention encoder of the diffusion module."""
    return AtomAttentionEncoder(
        spec.n_atom_encoder,
        c_atom=spec.c_atom,
        c_atompair=spec.c_atompair,
        c_token=spec.c_token,
        n_head=spec.n_head_atom,
        n_element=spec.n_element,
        trunk=(spec.c_s, spec.c_z),
    )


def diffusion_decoder(spec: ModelSpec) -> AtomAttentionDecoder:
    """Atom attention decoder of the diffusion module."""
    return AtomAttentionDecoder(
        spec.n_atom_decoder,
        c_atom=spec.c_atom,
        c_atompair=spec.c_atompair,
        c_token=spec.c_token,
        n_head=spec.n_head_atom,
    )


def diffusion_transformer(spec: ModelSpec) -> DiffusionTransformer:
    """Token transformer of the diffusion module."""
    return DiffusionTransformer(spec.n_diffusion, spec.c_token, spec.c_s, spec.c_z, spec.n_head_token)


def diffusion_conditioning(spec: ModelSpec) -> DiffusionConditioning:
    """Conditioning of the diffusion module."""
    return DiffusionConditioning(
        c_s=spec.c_s,
        c_z=spec.c_z,
        c_s_inputs=spec.c_s_inputs,
        c_fourier=spec.c_fourier,
        sigma_data=spec.sigma_data,
        r_max=spec.r_max,
        s_max=spec.s_max,
    )


def distogram_head(spec: ModelSpec) -> DistogramHead:
    """Distogram head."""
    return DistogramHead(spec.c_z, spec.n_distogram, spec.distogram_range, spec.contact_distance)


def confidence_head(spec: ModelSpec) -> ConfidenceHead:
    """Confidence head."""
    return ConfidenceHead(
        pairformer(spec, spec.n_confidence),
        c_s=spec.c_s,
        c_z=spec.c_z,
        c_s_inputs=spec.c_s_inputs,
        n_bin=spec.n_pae,
        n_plddt=spec.n_plddt,
        n_slot=spec.n_atom_in_token,
    )
