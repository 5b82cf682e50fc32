"""What holds for every op and every implementation of it: blocks, leading axes, masks, places and repeatability."""

import pytest
import torch
from op_cases import C_Z, CASES, IN_PLACE, N_MSA, Case, error, kept, masks_rows, spoil

from foldline.ops import TABLES, Rows

EVERY = [pytest.param(case, name, id=f"{key}, {name}") for key, case in CASES.items() for name in TABLES[case.op]]
WITH_MASK = [p for p in EVERY if p.values[0].op != "transition_"]
SIZE = {"window_attention": 141}


def size(case: Case) -> int:
    return SIZE.get(case.op, 19)


def a_mask(case: Case) -> torch.Tensor:
    """Everything kept but a few at the end, in the middle and at the front."""
    mask = torch.ones(N_MSA if masks_rows(case) else size(case), dtype=torch.bool)
    mask[[1, 4, len(mask) - 2, len(mask) - 1]] = False
    return mask


@pytest.mark.parametrize(("case", "name"), EVERY)
@pytest.mark.parametrize("rows", [Rows(1, 1, 1), Rows(50, 33, 40), Rows(19 * 7, 19 * 5, 19 * 4)], ids=str)
def test_blocks_of_any_size_give_the_same(case: Case, name: str, rows: Rows) -> None:
    n = size(case)
    whole = case.run(case.inputs(n), None, Rows(10**9, 10**9, 10**9), name)
    assert error(case.run(case.inputs(n), None, rows, name), whole) <= 1e-6


@pytest.mark.parametrize(("case", "name"), EVERY)
@pytest.mark.parametrize("masked", [False, True])
def test_leading_axes_are_as_good_as_alone(case: Case, name: str, masked: bool) -> None:
    n, lead = size(case), (2, 3)
    inputs = case.inputs(n, lead)
    mask = None
    if masked and case.op != "transition_":
        mask = torch.stack([a_mask(case).roll(i) for i in range(6)]).reshape(2, 3, -1)
    alone = [
        case.run({k: v[i, j].clone() for k, v in inputs.items()}, None if mask is None else mask[i, j], None, name)
        for i in range(2)
        for j in range(3)
    ]
    together = case.run(inputs, mask, None, name)
    assert error(together, torch.stack(alone).unflatten(0, lead)) <= 1e-6


@pytest.mark.parametrize(("case", "name"), WITH_MASK)
@pytest.mark.parametrize("value", [1e4, -1e4])
def test_what_is_masked_changes_nothing(case: Case, name: str, value: float) -> None:
    n, mask = size(case), a_mask(case)
    clean = case.run(case.inputs(n), mask, None, name)
    spoilt = case.run(spoil(case, case.inputs(n), mask, value), mask, None, name)
    assert error(kept(case, spoilt, mask), kept(case, clean, mask)) <= 1e-6
    unmasked = case.run(spoil(case, case.inputs(n), mask, value), None, None, name)
    assert error(kept(case, unmasked, mask), kept(case, clean, mask)) > 1e-3, "the mask has no effect"


@pytest.mark.parametrize(("case", "name"), [p for p in WITH_MASK if p.values[0].op != "window_attention"])
def test_masked_is_as_if_cut_off(case: Case, name: str) -> None:
    n, mask = size(case), a_mask(case)
    inputs = case.inputs(n)
    letter = "s" if masks_rows(case) else "n"
    cut = {}
    for key, tensor in inputs.items():
        for i, axis in enumerate(case.axes[key]):
            if axis == letter:
                tensor = tensor.index_select(i, mask.nonzero()[:, 0])
        cut[key] = tensor.clone()
    whole = kept(case, case.run(inputs, mask, None, name), mask)
    assert error(whole, case.run(cut, None, None, name)) <= 1e-6


@pytest.mark.parametrize(("case", "name"), EVERY)
def test_two_calls_are_equal_to_the_bit(case: Case, name: str) -> None:
    n = size(case)
    assert torch.equal(case.run(case.inputs(n), None, None, name), case.run(case.inputs(n), None, None, name))


@pytest.mark.parametrize(("case", "name"), EVERY)
def test_bf16_is_close(case: Case, name: str) -> None:
    n = size(case)
    mask = None if case.op == "transition_" else a_mask(case)
    low = case.run(case.inputs(n, dtype=torch.bfloat16), mask, None, name)
    assert low.dtype == torch.bfloat16
    exact = {k: v.bfloat16().float() for k, v in case.inputs(n).items()}
    reference = case.run(exact, mask, None, "reference")
    found, wanted = (low, reference) if mask is None else (kept(case, low, mask), kept(case, reference, mask))
    assert 1e-5 < error(found, wanted) < 2e-2


@pytest.mark.parametrize("key", IN_PLACE)
def test_updates_stay_in_place(key: str) -> None:
    case = IN_PLACE[key]
    inputs = case.inputs(19, (2,))
    assert case.updated is not None
    target = inputs[case.updated]
    others = {k: v.clone() for k, v in inputs.items() if k != case.updated}
    place, before = target.data_ptr(), target.clone()
    case.run(inputs, None)
    assert target.data_ptr() == place and error(target, before) > 1e-2
    assert all(torch.equal(inputs[k], v) for k, v in others.items()), "an input that is only read was changed"


@pytest.mark.parametrize("key", ["attention with pair bias", "window attention"])
def test_attention_leaves_its_inputs_alone(key: str) -> None:
    case = CASES[key]
    inputs = case.inputs(size(case))
    before = {k: v.clone() for k, v in inputs.items()}
    case.run(inputs, None)
    assert all(torch.equal(inputs[k], v) for k, v in before.items())


@pytest.mark.parametrize("key", IN_PLACE)
def test_a_part_of_a_larger_tensor_can_be_updated(key: str) -> None:
    """Samples and seeds are slices of one buffer: what lies beside must stay."""
    case = IN_PLACE[key]
    assert case.updated is not None
    inputs = case.inputs(19)
    alone = case.run({k: v.clone() for k, v in inputs.items()}, None)
    buffer = torch.stack([torch.full_like(inputs[case.updated], 7.0)] * 3)
    buffer[1] = inputs[case.updated]
    case.run(inputs | {case.updated: buffer[1]}, None)
    assert torch.equal(buffer[1], alone)
    assert (buffer[[0, 2]] == 7).all()


def test_the_cases_cover_the_table() -> None:
    assert {case.op for case in CASES.values()} == set(TABLES)
    assert C_Z % 2 == 0
