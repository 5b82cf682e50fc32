"""Features on a device: padding is cleared, masks exist only where needed, equal template slots are one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_features import tiny_features, with_garbage

from foldline.models import Batch

SIZES = {"N_token": 40, "N_atom": 200, "N_msa": 90, "N_bond": 33}


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in vars(batch).items():
        parts = value._asdict() if hasattr(value, "_asdict") else {"": value}
        parts = {str(i): x for i, x in enumerate(value)} if isinstance(value, tuple) and not parts else parts
        found |= {f"{name}.{k}": x for k, x in parts.items() if isinstance(x, torch.Tensor)}
    return found


def test_unpadded_jobs_have_no_masks() -> None:
    f = tiny_features()
    batch = Batch.of(f, f.ref_pos, "cpu", 1000)
    assert batch.token_mask is None and batch.atoms.mask is None
    assert batch.n_token == f.n_token and len(batch.msa) == 70


def test_garbage_in_padding_is_cleared() -> None:
    f = tiny_features()
    padded = with_garbage(f, **SIZES)
    assert np.isnan(padded.profile[-1]).all() and padded.atom_to_token[-1] > 1e9, "the padding holds no garbage"
    clean, dirty = (Batch.of(x, f.ref_pos, "cpu", 1000) for x in (f.pad_to(**SIZES), padded))
    for (name, a), b in zip(tensors(clean).items(), tensors(dirty).values(), strict=True):
        assert torch.equal(a, b), name
    for a, b in zip(clean.templates, dirty.templates, strict=True):
        assert a.count == b.count and all(torch.equal(x, y) for x, y in zip(a[:-1], b[:-1], strict=True))
    assert torch.equal(dirty.token_mask, torch.arange(40) < f.n_token)
    assert torch.equal(dirty.atoms.mask, torch.arange(200) < f.n_atom)


def test_ref_pos_may_be_padded_or_not() -> None:
    f = tiny_features()
    padded = with_garbage(f, **SIZES)
    short, long = (Batch.of(padded, x, "cpu", 1000).atoms.ref_pos for x in (f.ref_pos, padded.ref_pos))
    assert torch.equal(short, long) and len(short) == 200 and (short[f.n_atom :] == 0).all()


def test_padding_rows_of_the_alignment_are_not_carried() -> None:
    f = tiny_features()
    mask = np.arange(70) % 3 != 0
    batch = Batch.of(replace(f, msa_mask=mask), f.ref_pos, "cpu", 1000)
    assert np.array_equal(batch.msa.numpy(), f.msa[mask])
    assert np.array_equal(batch.deletions.numpy(), f.deletions[mask])
    few = Batch.of(replace(f, msa_mask=mask), f.ref_pos, "cpu", 7)
    assert np.array_equal(few.msa.numpy(), f.msa[mask][:7]) and few.msa.is_contiguous()


def test_equal_template_slots_are_one_with_a_count() -> None:
    f = tiny_features()
    found = Batch.of(f, f.ref_pos, "cpu", 1000).templates
    assert [t.count for t in found] == [1, 1, 2]
    assert np.array_equal(found[1].aatype.numpy(), f.template_aatype[1])
    assert np.array_equal(found[2].backbone.numpy(), f.template_backbone[3])
    assert found[0].pseudo_beta_mask.any() and not found[2].pseudo_beta_mask.any()


def test_slots_that_differ_in_padding_alone_are_equal() -> None:
    f = tiny_features()
    padded = f.pad_to(N_token=31)
    aatype = padded.template_aatype.copy()
    aatype[3, 28:] = 9
    found = Batch.of(replace(padded, template_aatype=aatype), f.ref_pos, "cpu", 1000).templates
    assert [t.count for t in found] == [1, 1, 2]


def test_template_slots_cannot_be_padded() -> None:
    """The network takes a mean over all slots, so one more would change it."""
    with pytest.raises(ValueError, match="N_templ cannot be padded"):
        tiny_features().pad_to(N_templ=5)
    with pytest.raises(ValueError, match="N_tokens cannot be padded"):
        tiny_features().pad_to(N_tokens=50)


def test_padding_shares_what_it_does_not_grow() -> None:
    f = tiny_features()
    padded = f.pad_to(N_atom=200)
    assert padded.msa is f.msa and padded.token_mask is f.token_mask and padded.atom_mask is not f.atom_mask


@pytest.mark.parametrize("order", [1, -1])
def test_a_job_without_template_slots_beside_one_that_has_some(order: int) -> None:
    f = tiny_features()
    none = replace(f, **{name: getattr(f, name)[:0] for name in vars(f) if name.startswith("template_")})
    parts = [Batch.of(x, f.ref_pos, "cpu", 1000) for x in (f, none)[::order]]
    assert sorted(len(part.templates) for part in parts) == [0, 3]
    stacked = Batch.stack(parts)
    assert [t.count.tolist()[::order] for t in stacked.templates] == [[1, 0], [1, 0], [2, 0]]  # type: ignore[union-attr]
