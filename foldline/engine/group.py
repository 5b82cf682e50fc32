"""A group of seeds that share forward passes, and what is finished of it. Knows where tensors rest, not how they come.

A lane is one seed of one job: an entry of the leading axis of every tensor of the group.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from foldline.engine.offload import Resting
from foldline.models import Batch
from foldline.models.network import Dropout
from foldline.sampler import Draws
from foldline.tensors import Features


@dataclass(frozen=True, eq=False)
class Lane:
    """One seed of one job; `job` is the caller's number for the job."""

    features: Features
    draws: Draws
    job: int = 0


@dataclass
class TrunkResult:
    """What the trunk leaves behind; z may rest elsewhere and be given up, so nobody else keeps it."""

    s_inputs: Tensor  # [N_lane, N_token, c_s_inputs], float32
    s: Tensor  # [N_lane, N_token, c_s], the trunk's precision
    z: Tensor | Resting  # [N_lane, N_token, N_token, c_z], the trunk's precision
    contacts: list[np.ndarray] = field(default_factory=list)  # of every finished lane, without padding
    is_whole: bool = True  # False once a lane's z is overwritten
    place: Resting | None = None  # where z rested before

    def settle(self, *, rests: bool) -> None:
        """Put z away, so that rows of it are read, or have it on the device. Only one lane alone can rest."""
        if rests and isinstance(self.z, Tensor) and len(self.z) == 1:
            self.place = Resting(self.z) if self.place is None else self.place.put(self.z)
            self.z = self.place
        elif not rests and isinstance(self.z, Resting):
            self.z = self.z.bring()

    def of(self, which: slice) -> Tensor:
        """z of some lanes, on the device, a view where it is there already."""
        assert isinstance(self.z, Tensor), "z rests elsewhere"
        return self.z[which]

    def rows_of(self, which: slice) -> Tensor | Resting:
        """z of some lanes, to be read row by row."""
        return self.z[which] if isinstance(self.z, Tensor) else self.z

    def give_up(self) -> None:
        """Forget z."""
        self.z, self.place, self.is_whole = torch.empty(0), None, False

    def alone(self, lane: int) -> "TrunkResult":
        """The result of one lane, z resting elsewhere."""
        which = slice(lane, lane + 1)
        return TrunkResult(
            self.s_inputs[which].clone(), self.s[which].clone(), Resting(self.of(which)), [self.contacts[lane]]
        )


@dataclass
class Group:
    """Lanes that are taken through the network together, and what is there of them."""

    lanes: list[Lane]
    batch: Batch | None = None
    trunk: TrunkResult | None = None
    drawn: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # positions in Å by (lane, sample)
    scored: set[tuple[int, int]] = field(default_factory=set)  # (lane, sample) handed over
    embedded: set[int] = field(default_factory=set)  # lanes whose embeddings are handed over
    dropout: Dropout | None = None
    stage: str = "trunk"
    seconds: dict[str, float] = field(default_factory=dict)
    n_abreast: int = 1  # groups that ran at the same time

    @classmethod
    def joined(cls, groups: Sequence["Group"]) -> "Group":
        """Lanes of groups that begin anew, in one, with what each has handed over before; one alone stays as it is."""
        if len(groups) == 1:
            return groups[0]
        whole, first = cls([lane for group in groups for lane in group.lanes]), 0
        for group in groups:
            whole.scored |= {(first + i, k) for i, k in group.scored}
            whole.embedded |= {first + i for i in group.embedded}
            for stage, spent in group.seconds.items():
                whole.seconds[stage] = whole.seconds.get(stage, 0.0) + spent
            first += len(group.lanes)
        return whole

    @property
    def has_trunk(self) -> bool:
        """Whether the trunk of every lane is finished and still there."""
        trunk = self.trunk
        return trunk is not None and trunk.is_whole and len(trunk.contacts) == len(self.lanes)

    def is_drawn(self, n_sample: int) -> bool:
        """Whether all samples have positions."""
        return len(self.drawn) == n_sample * len(self.lanes)

    def after_failure(self) -> tuple[list["Group"], list["Group"]]:
        """What goes on and what starts anew after memory ran out: lanes with a finished trunk, each alone; the rest.

        Samples that were handed over stay so. A group of one lane that has its trunk goes on as it is.
        """
        if len(self.lanes) == 1 and self.has_trunk:
            return [self], []
        kept = self.trunk is not None and self.trunk.is_whole
        finished = len(self.trunk.contacts) if kept and self.trunk is not None else 0
        return [self._alone(i) for i in range(finished)], [self._anew(i) for i in range(finished, len(self.lanes))]

    def anew(self) -> list["Group"]:
        """All lanes, each alone, without what the network made of them."""
        return [self._anew(i) for i in range(len(self.lanes))]

    def _alone(self, lane: int) -> "Group":
        """The group of one lane with its trunk's result and all that follows from it."""
        assert self.trunk is not None and self.batch is not None
        group = self._anew(lane)
        group.batch, group.trunk = self.batch.lanes(slice(lane, lane + 1)), self.trunk.alone(lane)
        group.drawn = {(0, k): x for (i, k), x in self.drawn.items() if i == lane}
        return group

    def _anew(self, lane: int) -> "Group":
        """The group of one lane with what cannot be taken back alone."""
        share = {stage: spent / len(self.lanes) for stage, spent in self.seconds.items()}
        group = Group([self.lanes[lane]], seconds=share, stage=self.stage)
        group.scored = {(0, k) for i, k in self.scored if i == lane}
        group.embedded = {0} if lane in self.embedded else set()
        return group


def make_batch(lanes: Sequence[Lane], bucket: tuple[int, int], device: torch.device | str, max_msa: int) -> Batch:
    """The lanes on a device, padded to `bucket` (tokens, atoms): what seeds of a job share is there once.

    Only the posed conformers are a seed's own. Jobs that share a batch have their columns one beside the other, in the
    order of the lanes; a job that others come between is there for each of its parts.
    """
    largest = {axis: max(lane.features.sizes[axis] for lane in lanes) for axis in ("N_token", "N_atom", "N_bond")}
    largest["N_token"], largest["N_atom"] = max(bucket[0], largest["N_token"]), max(bucket[1], largest["N_atom"])
    parts = []
    for _, same in itertools.groupby(lanes, lambda lane: id(lane.features)):
        seeds = list(same)
        features = seeds[0].features
        poses = [lane.draws.ref_pos(features) for lane in seeds]
        padded = features.pad_to(**largest)
        parts.append(Batch.of(padded, np.stack(poses), device, max_msa))
    return Batch.stack(parts)
