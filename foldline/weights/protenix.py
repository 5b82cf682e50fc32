"""Protenix checkpoints: their tensor names in terms of ours, and the spec read off names and shapes.

A canonical parameter is one upstream tensor or several stacked along the first axis. The tables mirror the module tree.
"""

import re
from dataclasses import replace

from foldline.errors import WeightsError
from foldline.models.spec import PROTENIX_MINI, PROTENIX_V1, ModelSpec

Tree = dict[str, "str | tuple[str, ...] | tuple[str, Tree]"]

_TRANSITION: Tree = {
    "norm": "layernorm1",
    "ab": ("linear_no_bias_a", "linear_no_bias_b"),
    "out": "linear_no_bias",
}
_TRI_MUL: Tree = {
    "norm_in": "layer_norm_in",
    "ab": ("linear_a_g", "linear_a_p", "linear_b_g", "linear_b_p"),
    "norm_out": "layer_norm_out",
    "z": "linear_z",
    "gate": "linear_g",
}
_TRI_ATT: Tree = {
    "norm": "layer_norm",
    "bias": "linear",
    "qkvg": ("mha.linear_q", "mha.linear_k", "mha.linear_v", "mha.linear_g"),
    "out": "mha.linear_o",
}
_PAIR: Tree = {
    "tri_mul_out": ("tri_mul_out.", _TRI_MUL),
    "tri_mul_in": ("tri_mul_in.", _TRI_MUL),
    "tri_att_start": ("tri_att_start.", _TRI_ATT),
    "tri_att_end": ("tri_att_end.", _TRI_ATT),
    "pair_transition": ("pair_transition.", _TRANSITION),
}
_ATTENTION: Tree = {
    "q": "attention.linear_q",
    "kv": ("attention.linear_k", "attention.linear_v"),
    "gate": "attention.linear_g",
    "out": "attention.linear_o",
    "norm_z": "layernorm_z",
    "bias": "linear_nobias_z",
}
_PAIRFORMER: Tree = {
    "blocks.*": (
        "blocks.*.",
        {
            "pair": ("", _PAIR),
            "single_attention": ("attention_pair_bias.", {**_ATTENTION, "norm": "layernorm_a"}),
            "single_transition": ("single_transition.", _TRANSITION),
        },
    )
}
_ADALN: Tree = {"norm_s": "layernorm_s", "scale": "linear_s", "shift": "linear_nobias_s"}
_DIFFUSION_BLOCKS: Tree = {
    "blocks.*": (
        "blocks.*.",
        {
            "attention": (
                "attention_pair_bias.",
                {
                    **_ATTENTION,
                    "norm": ("layernorm_a.", _ADALN),
                    "norm_keys": ("layernorm_kv.", _ADALN),
                    "out_gate": "linear_a_last",
                },
            ),
            "transition": (
                "conditioned_transition_block.",
                {
                    "norm": ("adaln.", _ADALN),
                    "ab": ("linear_nobias_a1", "linear_nobias_a2"),
                    "out": "linear_nobias_b",
                    "out_gate": "linear_s",
                },
            ),
        },
    )
}
_ATOM_FEATURES: Tree = {
    "ref_pos": "linear_no_bias_ref_pos",
    "ref_charge": "linear_no_bias_ref_charge",
    "ref_features": "linear_no_bias_f",
    "offset": "linear_no_bias_d",
    "inverse_distance": "linear_no_bias_invd",
    "same_space": "linear_no_bias_v",
    "pair_query": "linear_no_bias_cl",
    "pair_key": "linear_no_bias_cm",
    "mlp.0": "small_mlp.1",
    "mlp.1": "small_mlp.3",
    "mlp.2": "small_mlp.5",
    "norm_s": "layernorm_s",
    "s": "linear_no_bias_s",
    "norm_z": "layernorm_z",
    "z": "linear_no_bias_z",
}
_ATOM_TRANSFORMER = ("atom_transformer.diffusion_transformer.", _DIFFUSION_BLOCKS)
_ENCODER: Tree = {
    "features": ("", _ATOM_FEATURES),
    "r": "linear_no_bias_r",
    "transformer": _ATOM_TRANSFORMER,
    "q": "linear_no_bias_q",
}
_DECODER: Tree = {
    "a": "linear_no_bias_a",
    "transformer": _ATOM_TRANSFORMER,
    "norm_q": "layernorm_q",
    "out": "linear_no_bias_out",
}
_CONDITIONING: Tree = {
    "relative": ("relpe.", {"linear": "linear_no_bias"}),
    "norm_z": "layernorm_z",
    "z": "linear_no_bias_z",
    "transition_z1": ("transition_z1.", _TRANSITION),
    "transition_z2": ("transition_z2.", _TRANSITION),
    "norm_s": "layernorm_s",
    "s": "linear_no_bias_s",
    "fourier_w": "fourier_embedding.w",
    "fourier_b": "fourier_embedding.b",
    "norm_n": "layernorm_n",
    "n": "linear_no_bias_n",
    "transition_s1": ("transition_s1.", _TRANSITION),
    "transition_s2": ("transition_s2.", _TRANSITION),
}
_MSA: Tree = {
    "m": "linear_no_bias_m",
    "s": "linear_no_bias_s",
    "blocks.*": (
        "blocks.*.",
        {
            "opm": (
                "outer_product_mean_msa.",
                {"norm": "layer_norm", "ab": ("linear_1", "linear_2"), "out": "linear_out"},
            ),
            "pwa": (
                "msa_stack.msa_pair_weighted_averaging.",
                {
                    "norm_m": "layernorm_m",
                    "norm_z": "layernorm_z",
                    "bias": "linear_no_bias_z",
                    "vg": ("linear_no_bias_mv", "linear_no_bias_mg"),
                    "out": "linear_no_bias_out",
                },
            ),
            "transition": ("msa_stack.transition_m.", _TRANSITION),
            "pair": ("pair_stack.", _PAIR),
        },
    ),
}
_TEMPLATE: Tree = {
    "norm_z": "layernorm_z",
    "z": "linear_no_bias_z",
    "a": "linear_no_bias_a",
    "blocks.*": ("pairformer_stack.blocks.*.", _PAIR),
    "norm_v": "layernorm_v",
    "u": "linear_no_bias_u",
}
_CONFIDENCE: Tree = {
    "left": "linear_no_bias_s1",
    "right": "linear_no_bias_s2",
    "distance_bins": "linear_no_bias_d",
    "distance": "linear_no_bias_d_wo_onehot",
    "norm_s": "input_strunk_ln",
    "stack": ("pairformer_stack.", _PAIRFORMER),
    "norm_pae": "pae_ln",
    "pae": "linear_no_bias_pae",
    "norm_pde": "pde_ln",
    "pde": "linear_no_bias_pde",
    "norm_plddt": "plddt_ln",
    "plddt": "plddt_weight",
    "norm_resolved": "resolved_ln",
    "resolved": "resolved_weight",
}
TREE: Tree = {
    "trunk": (
        "",
        {
            "input_encoder": ("input_embedder.atom_attention_encoder.", _ENCODER),
            "s_init": "linear_no_bias_sinit",
            "z_init_left": "linear_no_bias_zinit1",
            "z_init_right": "linear_no_bias_zinit2",
            "relative": ("relative_position_encoding.", {"linear": "linear_no_bias"}),
            "bond": "linear_no_bias_token_bond",
            "norm_z": "layernorm_z_cycle",
            "recycle_z": "linear_no_bias_z_cycle",
            "norm_s": "layernorm_s",
            "recycle_s": "linear_no_bias_s",
            "template_embedder": ("template_embedder.", _TEMPLATE),
            "msa_module": ("msa_module.", _MSA),
            "pairformer": ("pairformer_stack.", _PAIRFORMER),
        },
    ),
    "diffusion": (
        "diffusion_module.",
        {
            "conditioning": ("diffusion_conditioning.", _CONDITIONING),
            "encoder": ("atom_attention_encoder.", _ENCODER),
            "norm_s": "layernorm_s",
            "s": "linear_no_bias_s",
            "transformer": ("diffusion_transformer.", _DIFFUSION_BLOCKS),
            "norm_a": "layernorm_a",
            "decoder": ("atom_attention_decoder.", _DECODER),
        },
    ),
    "distogram": ("distogram_head.", {"linear": "linear"}),
    "confidence": ("confidence_head.", _CONFIDENCE),
}

# Tensors that a checkpoint may hold and that no inference reads: (pattern, why).
DEAD: tuple[tuple[str, str], ...] = (
    (r"confidence_head\.(lower|upper)_bins", "constants of the code"),
    (r"constraint_embedder\..*", "read only with constraints in the input, which Foldline does not offer"),
)
DEAD_WITHOUT_TEMPLATES = (r"template_embedder\..*", "the template stack has no blocks")


def sources(name: str) -> list[str]:
    """Upstream tensors that make up the canonical parameter `name`, in stacking order."""
    prefix, tree, rest = "", TREE, name
    while True:
        child, index = _child(tree, rest)
        entry = tree[child]
        rest = rest[len(child.replace("*", index)) :].removeprefix(".")
        if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], dict):
            prefix += entry[0].replace("*", index)
            tree = entry[1]
            continue
        leaves = (entry,) if isinstance(entry, str) else entry
        return [prefix + leaf + (f".{rest}" if rest else "") for leaf in leaves if isinstance(leaf, str)]


def _child(tree: Tree, name: str) -> tuple[str, str]:
    """The entry of `tree` that `name` starts with, and the block index where the entry is a list."""
    for child in tree:
        match = re.match(child.replace(".", r"\.").replace("*", r"(\d+)") + r"(?:\.|$)", name)
        if match:
            return child, match.group(1) if "*" in child else ""
    raise KeyError(name)


# Sizes that a tensor's axis tells. Where the tensor is missing the preset's stands, and the missing one is named later.
_BLOCK, _DIFFUSION = "pairformer_stack.blocks.0.", "diffusion_module."
_SIZES = {
    "c_s": ("linear_no_bias_s.weight", 0),
    "c_z": ("linear_no_bias_z_cycle.weight", 0),
    "c_m": ("msa_module.linear_no_bias_m.weight", 0),
    "c_s_inputs": ("linear_no_bias_sinit.weight", 1),
    "c_atom": (_DIFFUSION + "atom_attention_encoder.linear_no_bias_q.weight", 1),
    "c_atompair": (_DIFFUSION + "atom_attention_encoder.linear_no_bias_cl.weight", 0),
    "c_token": (_DIFFUSION + "linear_no_bias_s.weight", 0),
    "c_tri_mul": (_BLOCK + "tri_mul_out.linear_a_p.weight", 0),
    "c_opm": ("msa_module.blocks.0.outer_product_mean_msa.linear_1.weight", 0),
    "n_head_tri_att": (_BLOCK + "tri_att_start.linear.weight", 0),
    "n_head_single": (_BLOCK + "attention_pair_bias.linear_nobias_z.weight", 0),
    "n_head_token": (_DIFFUSION + "diffusion_transformer.blocks.0.attention_pair_bias.linear_nobias_z.weight", 0),
    "c_tri_mul_template": ("template_embedder." + _BLOCK + "tri_mul_out.linear_a_p.weight", 0),
    "n_head_tri_att_template": ("template_embedder." + _BLOCK + "tri_att_start.linear.weight", 0),
}
_Q = _BLOCK + "tri_att_start.mha.linear_q.weight"


def read_spec(shapes: dict[str, tuple[int, ...]], source: str) -> ModelSpec:
    """The spec of a checkpoint from its tensor names and shapes.

    Networks with one MSA block are the mini and tiny ones, which were distilled for a sampler of five steps.

    Raises:
        WeightsError: not a Protenix checkpoint, or one whose inputs Foldline does not offer.
    """
    marker = ("linear_no_bias_z_cycle.weight", "msa_module.linear_no_bias_m.weight", "confidence_head.plddt_weight")
    missing = [name for name in marker if name not in shapes]
    if missing:
        raise WeightsError(f"{source}: not a Protenix checkpoint, it lacks {missing[0]}")
    if "input_embedder.linear_esm.weight" in shapes:
        raise WeightsError(f"{source}: this checkpoint reads ESM embeddings, which Foldline does not offer")

    def count(pattern: str) -> int:
        return len({m.group(1) for name in shapes if (m := re.match(pattern + r"\.blocks\.(\d+)\.", name))})

    n_template, n_msa = count(r"template_embedder\.pairformer_stack"), count("msa_module")
    atom = r"\.atom_transformer\.diffusion_transformer"
    sizes = {field: shapes[tensor][axis] for field, (tensor, axis) in _SIZES.items() if tensor in shapes}
    spec = replace(
        PROTENIX_MINI if n_msa == 1 else PROTENIX_V1,
        n_pairformer=count("pairformer_stack"),
        n_msa=n_msa,
        n_template=n_template,
        n_diffusion=count(r"diffusion_module\.diffusion_transformer"),
        n_atom_input=count(r"input_embedder\.atom_attention_encoder" + atom),
        n_atom_encoder=count(r"diffusion_module\.atom_attention_encoder" + atom),
        n_atom_decoder=count(r"diffusion_module\.atom_attention_decoder" + atom),
        n_confidence=count(r"confidence_head\.pairformer_stack"),
        **sizes,
    )
    if _Q in shapes:
        spec = replace(spec, c_tri_att=shapes[_Q][0] // spec.n_head_tri_att)
    return replace(spec, fp32_confidence_to=0) if spec.c_z > PROTENIX_V1.c_z else spec


def dead(name: str, spec: ModelSpec) -> bool:
    """Whether a tensor of the checkpoint is known to be read by nothing."""
    patterns = [pattern for pattern, _ in DEAD]
    if not spec.n_template:
        patterns.append(DEAD_WITHOUT_TEMPLATES[0])
    return any(re.fullmatch(pattern, name) for pattern in patterns)
