"""Random draws, their tape, and the diffusion sampler (AF3 SI Alg. 18).

Knows no plans, devices or files but the tape's.
"""

from foldline.sampler.draws import Draws, SampleDraws, Tape
from foldline.sampler.sampler import noise_schedule, sample

__all__ = ["Draws", "SampleDraws", "Tape", "noise_schedule", "sample"]
