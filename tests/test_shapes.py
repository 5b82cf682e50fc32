"""The aliases of shapes check axes where jaxtyping is installed."""

import subprocess
import sys

import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import jaxtyped

from foldline.shapes import Pair, TokenMask


def test_axes_are_checked() -> None:
    @jaxtyped(typechecker=beartype)
    def size(z: Pair, mask: TokenMask) -> int:
        return z.shape[-1]

    z, mask = torch.zeros(2, 5, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    assert size(z, mask) == 8
    for bad in ((z[:, :4], mask), (z, mask[:, :4]), (z, mask.float())):
        with pytest.raises((TypeError, BeartypeCallHintParamViolation)):
            size(*bad)


def test_plain_tensors_without_jaxtyping() -> None:
    code = (
        "import sys; sys.modules['jaxtyping'] = None; from foldline import shapes; assert shapes.Pair is shapes.Tensor"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
