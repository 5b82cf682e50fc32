"""The memory model against counted bytes: every stage within 10 % for a grid of networks, sizes, precisions and plans.

`benchmarks/plan.py` covers the sizes and published networks that take longer.
"""

from dataclasses import replace

import pytest
import torch

from foldline.engine.memory_bench import measure
from foldline.engine.memory_model import STAGES, Block, stage_terms
from foldline.engine.plan import Plan, Sizes, estimate, richest
from foldline.models import ModelSpec
from foldline.models.spec import PROTENIX_TINY, PROTENIX_V1, PROTENIX_V2
from foldline.ops import Rows, row_blocks

# stacks of few blocks, so that weights do not hide what the rest is off by
FEW = {"n_pairformer": 1, "n_msa": 2, "n_diffusion": 2, "n_confidence": 1, "n_template": 1}
V1, V2 = replace(PROTENIX_V1, **FEW), replace(PROTENIX_V2, **FEW)
PLAIN = replace(PROTENIX_TINY, **FEW | {"n_template": 0, "n_msa": 1})
LOW, FULL = torch.bfloat16, torch.float32
SMALL_ROWS = Rows(pair=1 << 13, point=1 << 13, msa=1 << 14)


def a_plan(sizes: Sizes, spec: ModelSpec, dtype: torch.dtype, **changes: object) -> Plan:
    return estimate(replace(richest(sizes, spec, dtype=dtype, device="cuda"), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "p",
    [
        a_plan(Sizes(64, 500, 100), V1, FULL),
        a_plan(Sizes(64, 500, 100), V2, LOW),
        a_plan(Sizes(64, 500, 100, n_seed=5), V1, LOW),
        a_plan(Sizes(90, 2000, 4000, n_sample=1), PLAIN, FULL),
        a_plan(Sizes(200, 1600, 1024), V1, LOW, keep_biases=False, diffusion_batch=2, rows=SMALL_ROWS),
        a_plan(Sizes(200, 1600, 512, n_seed=3), V2, FULL, rows=SMALL_ROWS),
        a_plan(Sizes(700, 5600, 1024, n_seed=5), V1, LOW),
        a_plan(Sizes(700, 9000, 64, n_sample=1), V1, LOW, park_template=True, park_pair=True),
        a_plan(Sizes(1200, 9600, 256), V1, FULL, keep_biases=False, park_pair=True),
        a_plan(Sizes(2600, 21_000, 256, n_sample=1), V2, LOW, keep_biases=False, park_template=True),
        a_plan(Sizes(160, 3700, 4, n_sample=2), PLAIN, FULL, rows=SMALL_ROWS),  # window pairs in blocks
        a_plan(Sizes(300, 300, 4, n_seed=2, n_sample=1), V2, LOW, keep_biases=False, staged_weights=True),
        a_plan(Sizes(128, 900, 8000, n_msa_drawn=700), V1, FULL),
        a_plan(Sizes(128, 900, 3000, n_seed=3, n_msa_drawn=3), V1, LOW),
    ],
    ids=lambda p: f"{p.request.sizes}-c_z {p.request.spec.c_z}-{p.trunk_dtype}",
)
def test_every_stage_is_predicted(p: Plan) -> None:
    """Beside the weights, which are known to the byte."""
    report = measure(p)
    assert set(report.stages) == set(p.stage_bytes)
    weights = {name: terms["weights"] for name, terms in stage_terms(p.request.sizes, p.request.spec, p).items()}
    for name, stage in report.stages.items():
        predicted = p.stage_bytes[name] - weights[name]
        assert predicted == pytest.approx(stage.device - report.weights, rel=0.1), name


def test_blocks_are_those_that_ops_walk_over() -> None:
    for n_row, n_column, positions in ((10, 7, 21), (10, 7, 70), (10, 7, 1), (9, 4, 20), (8, 4, 16)):
        made = [(i.stop - i.start) * n_column for i in row_blocks(n_row, n_column, positions)]
        found = Block.of(n_row, n_column, positions)
        assert found == (made[0], max(made[1:], default=0), made[-1])
    assert Block(10, 10, 4).most(5, 2) == 70 and Block(10, 4, 4).most(5, 2) == 50 and Block(10, 0, 10).most(5, 2) == 50


def test_terms_add_up_and_are_named() -> None:
    p = a_plan(Sizes(2000, 16_000, 1024), PROTENIX_V1, LOW)
    terms = stage_terms(p.request.sizes, p.request.spec, p)
    assert list(terms) == list(STAGES)
    assert {name: sum(part.values()) for name, part in terms.items()} == p.stage_bytes
    assert terms["pairformer"]["z"] == 2000**2 * 128 * 2


def test_weights_brought_by_stage_are_those_of_the_stage() -> None:
    p = a_plan(Sizes(200, 1600, 100), V1, FULL)
    staged = estimate(replace(p, staged_weights=True))
    parts = {STAGES[name]: p.stage_bytes[name] - staged.stage_bytes[name] for name in p.stage_bytes}
    total = stage_terms(p.request.sizes, V1, p)["pairformer"]["weights"]
    assert sum(total - part for part in parts.values()) == total
