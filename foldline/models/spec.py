"""ModelSpec: one frozen record of sizes, switches and sampler constants per checkpoint. Read when modules are built."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class SamplerSpec:
    """Constants of the diffusion sampler (AF3 SI Alg. 18)."""

    n_step: int = 200
    gamma_0: float = 0.8
    gamma_min: float = 1.0
    noise_scale: float = 1.003
    step_scale: float = 1.5
    s_max: float = 160.0
    s_min: float = 4e-4
    rho: float = 7.0
    ends_at_zero: bool = True  # Protenix: the last noise level is 0, protenix/model/generator.py:118


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that tells two AlphaFold 3-class networks apart."""

    family: str = "protenix"
    # block counts
    n_pairformer: int = 48
    n_msa: int = 4
    n_template: int = 2
    n_diffusion: int = 24
    n_atom_input: int = 3
    n_atom_encoder: int = 3
    n_atom_decoder: int = 3
    n_confidence: int = 4
    # widths
    c_s: int = 384
    c_z: int = 128
    c_m: int = 64
    c_s_inputs: int = 449
    c_atom: int = 128
    c_atompair: int = 16
    c_token: int = 768
    c_template: int = 64
    c_tri_mul: int = 128
    c_tri_mul_template: int = 128
    n_head_tri_att: int = 4
    n_head_tri_att_template: int = 4
    c_tri_att: int = 32
    n_head_single: int = 16
    n_head_token: int = 16
    n_head_atom: int = 4
    c_opm: int = 32
    n_head_pwa: int = 8
    c_pwa: int = 8
    c_fourier: int = 256
    n_class: int = 32
    n_element: int = 128
    n_atom_in_token: int = 24
    # bins
    n_distogram: int = 64
    distogram_range: tuple[float, float] = (2.3125, 21.6875)
    contact_distance: float = 8.0
    n_pae: int = 64
    pae_max: float = 32.0
    n_plddt: int = 50
    n_distance_bin: int = 39  # confidence head: 3.25 to 52 in steps of 1.25 Å
    # geometry of relative positions
    r_max: int = 32
    s_max: int = 2
    # trunk and sampler
    n_template_slot: int = 4
    n_recycle: int = 9
    sigma_data: float = 16.0
    max_msa: int = 16_384
    sampler: SamplerSpec = SamplerSpec()
    # switches: af3_of3 families differ here
    ending_bias_transposed: bool = True  # bias[q, k] from z[k, q] (Protenix) or z[q, k] (AlphaFold 3, OpenFold3 0.5)
    mc_dropout: float = 0.4  # rate where Monte Carlo dropout is asked for; off by default
    # precision: largest padded token count that still runs in fp32 in a bf16 run
    fp32_diffusion_to: int = 3840
    fp32_confidence_to: int = 2560


PROTENIX_V1 = ModelSpec()
PROTENIX_V2 = replace(
    PROTENIX_V1,
    c_z=256,
    c_m=128,
    c_tri_mul=256,
    n_head_tri_att=8,
    c_tri_mul_template=64,
    n_head_tri_att_template=2,
    fp32_confidence_to=0,
)
PROTENIX_V05 = replace(PROTENIX_V1, n_template=0)
PROTENIX_MINI = replace(
    PROTENIX_V05,
    n_pairformer=16,
    n_msa=1,
    n_diffusion=8,
    n_atom_encoder=1,
    n_atom_decoder=1,
    n_recycle=3,
    sampler=SamplerSpec(n_step=5, gamma_0=0.0, step_scale=1.0),
)
PROTENIX_TINY = replace(PROTENIX_MINI, n_pairformer=8)
