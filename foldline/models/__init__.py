"""The network as the paper's pseudo-code, and the spec that sizes it. Knows no devices, ranks, chunk sizes or files."""

from foldline.models.batch import Batch
from foldline.models.network import DiffusionModule, Invariants, Network, Trunk
from foldline.models.spec import ModelSpec, SamplerSpec

__all__ = ["Batch", "DiffusionModule", "Invariants", "ModelSpec", "Network", "SamplerSpec", "Trunk"]
