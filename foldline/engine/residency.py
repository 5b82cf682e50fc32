"""Which weights are on the device: all of them, or those of the stage that runs. Knows checkpoints and plans."""

import threading

import torch

from foldline.engine.offload import release_memory
from foldline.engine.plan import Plan
from foldline.models import ModelSpec, Network
from foldline.weights.checkpoint import Checkpoint
from foldline.weights.load import load_parameters

STAGES = {
    "trunk": ("trunk", "distogram"),
    "diffusion": ("diffusion",),
    "confidence": ("confidence",),
}


class Residency:
    """A network whose weights come when a stage needs them, in the plan's precision, and stay as the plan says."""

    def __init__(self, spec: ModelSpec, checkpoint: Checkpoint, device: torch.device) -> None:
        """Make the network without memory; nothing is read yet."""
        self.checkpoint, self.device = checkpoint, device
        with torch.device("meta"):
            self.network = Network(spec)
        self._loaded: dict[str, torch.dtype] = {}
        self._lock = threading.Lock()

    def bring(self, stage: str, plan: Plan) -> None:
        """Have a stage's weights on the device: beside those of all other stages, or in their place.

        Groups that run beside each other may call this at once; their plan never has weights come and go.
        """
        with self._lock:
            self._bring(stage, plan)

    def _bring(self, stage: str, plan: Plan) -> None:
        """See `bring`."""
        if plan.staged_weights:
            dropped = [self._drop(other) for other in STAGES.keys() - {stage}]
            if any(dropped) and self.device.type == "cpu":
                release_memory(self.device)  # the heap keeps what is freed, more than half of the weights
        for each in (stage,) if plan.staged_weights else STAGES:
            dtype = plan.dtype_of(f"{each}.z")
            if self._loaded.get(each) != dtype:
                self._drop(each)
                self._load(each, plan)
                self._loaded[each] = dtype

    def _load(self, stage: str, plan: Plan) -> None:
        """Read a stage's weights: all of them, or none where memory runs out."""
        try:
            load_parameters(self.network, self.checkpoint, STAGES[stage], dtype_of=plan.dtype_of, device=self.device)
        except BaseException:
            self._clear(stage)
            raise

    def _drop(self, stage: str) -> bool:
        """Give a stage's weights back; whether they were there."""
        if self._loaded.pop(stage, None) is None:
            return False
        self._clear(stage)
        return True

    def _clear(self, stage: str) -> None:
        """Take whatever is there of a stage's weights from the device."""
        for name in STAGES[stage]:
            self.network.get_submodule(name).to("meta")
