"""Checkpoints in upstream's layout: every value in its place, and one clear error for everything that is not right."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from upstream_layout import SMALL, shapes_only, small_network, state

from foldline.errors import WeightsError
from foldline.models import ModelSpec, Network
from foldline.models.spec import PROTENIX_MINI, PROTENIX_TINY, PROTENIX_V05, PROTENIX_V1, PROTENIX_V2
from foldline.weights import protenix
from foldline.weights.checkpoint import Checkpoint, open_checkpoint
from foldline.weights.load import load_network, load_parameters, match, open_model

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network in every layout that may come."""
    path = tmp_path_factory.mktemp("checkpoints")
    torch.save({"model": state(network, "module.")}, path / "trained.pt")
    torch.save(state(network), path / "bare.pt")
    save_file(state(network), path / "safe.safetensors")
    return path


@pytest.mark.parametrize("name", ["trained.pt", "bare.pt", "safe.safetensors"])
def test_every_value_is_in_its_place(network: Network, folder: Path, name: str) -> None:
    loaded = load_network(folder / name)
    assert loaded.spec == SMALL
    theirs, ours = dict(network.named_parameters()), dict(loaded.named_parameters())
    assert set(theirs) == set(ours) and len(ours) > 250
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key
        assert ours[key].is_contiguous() and not ours[key].requires_grad


def test_stacked_parameters_are_stacked_in_the_order_of_the_ops() -> None:
    """The ops' docstrings name the order; this is the same order in upstream's names."""
    sources = protenix.sources
    block = "trunk.pairformer.blocks.7."
    assert sources(f"{block}pair.tri_mul_out.ab.weight") == [
        f"pairformer_stack.blocks.7.tri_mul_out.linear_{x}.weight" for x in ("a_g", "a_p", "b_g", "b_p")
    ]
    assert sources(f"{block}pair.tri_att_end.qkvg.weight") == [
        f"pairformer_stack.blocks.7.tri_att_end.mha.linear_{x}.weight" for x in "qkvg"
    ]
    assert sources("trunk.msa_module.blocks.0.pwa.vg.weight")[0].endswith("linear_no_bias_mv.weight")
    assert sources("diffusion.decoder.transformer.blocks.2.attention.norm_keys.scale.bias") == [
        "diffusion_module.atom_attention_decoder.atom_transformer.diffusion_transformer.blocks.2."
        "attention_pair_bias.layernorm_kv.linear_s.bias"
    ]
    assert sources("confidence.plddt") == ["confidence_head.plddt_weight"]
    with pytest.raises(KeyError):
        sources("trunk.nonsense.weight")


def test_no_tensor_serves_two_parameters() -> None:
    with torch.device("meta"):
        names = [s for name, _ in Network(PROTENIX_V2).named_parameters() for s in protenix.sources(name)]
    assert len(names) == len(set(names)) == 4174 - 2  # upstream's count, less the two constants


def spec_of(spec: ModelSpec) -> ModelSpec:
    """The spec read off the names and shapes of a checkpoint, which then has to match in full."""
    checkpoint = Checkpoint(Path("x.pt"), {k: tuple(v.shape) for k, v in shapes_only(spec).items()}, torch.zeros)
    found = protenix.read_spec(checkpoint.shapes, "x.pt")
    with torch.device("meta"):
        match(Network(found), checkpoint)
    return found


PRESETS = {"v2": PROTENIX_V2, "v1": PROTENIX_V1, "v05": PROTENIX_V05, "mini": PROTENIX_MINI, "tiny": PROTENIX_TINY}


@pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)
def test_the_spec_is_read_off_names_and_shapes(spec: ModelSpec) -> None:
    assert spec_of(spec) == spec


def test_a_whole_checkpoint_opens(tmp_path: Path) -> None:
    torch.save({"model": shapes_only(PROTENIX_V1, "module."), "step": 7}, tmp_path / "shapes.pt")
    checkpoint, spec = open_model(tmp_path / "shapes.pt")
    assert spec == PROTENIX_V1 and len(checkpoint.shapes) == 4174


def test_other_sizes_are_read_too() -> None:
    spec = replace(SMALL, n_msa=3, n_atom_decoder=2, n_confidence=2, n_diffusion=2)
    assert spec_of(spec) == spec


def test_leftovers_of_networks_without_templates_or_with_constraints_are_dead(tmp_path: Path) -> None:
    spec = replace(PROTENIX_MINI, n_pairformer=1)
    tensors = shapes_only(spec) | {
        "template_embedder.linear_no_bias_z.weight": torch.zeros(64, 128),
        "template_embedder.layernorm_v.bias": torch.zeros(64),
        "constraint_embedder.pocket_z_embedder.linear.weight": torch.zeros(128, 1),
    }
    torch.save(tensors, tmp_path / "m.pt")
    checkpoint, found = open_model(tmp_path / "m.pt")
    with torch.device("meta"):
        match(Network(found), checkpoint)
    with_templates = shapes_only(SMALL) | {"template_embedder.other.weight": torch.zeros(2)}
    torch.save(with_templates, tmp_path / "t.pt")
    with pytest.raises(WeightsError, match="unexpected tensor template_embedder.other.weight"):
        load_network(tmp_path / "t.pt")


def renamed(old: str, new: str) -> Callable[[State], State]:
    return lambda tensors: {k.replace(old, new): v for k, v in tensors.items()}


def without(name: str) -> Callable[[State], State]:
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


def shaped(name: str, *shape: int) -> Callable[[State], State]:
    return lambda tensors: tensors | {name: torch.zeros(*shape)}


BAD: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (
        without("linear_no_bias_sinit.weight"),
        "tensor linear_no_bias_sinit.weight missing, needed for trunk.s",
    ),
    "part of a stack missing": (
        without("pairformer_stack.blocks.0.tri_att_start.mha.linear_k.weight"),
        r"tensor pairformer_stack.blocks.0.tri_att_start.mha.linear_k.weight missing",
    ),
    "unexpected": (shaped("foo.weight", 2), "unexpected tensor foo.weight; is this another family or a newer version"),
    "many unexpected": (
        lambda t: t | {f"foo.{i}": torch.zeros(1) for i in range(9)},
        "unexpected tensors foo.0, foo.1, foo.2 and 6 more",
    ),
    "a block too many": (
        shaped("confidence_head.pairformer_stack.blocks.1.tri_mul_in.linear_z.weight", 24, 20),
        r"missing, needed for confidence.stack.blocks.1",
    ),
    "wrong shape": (
        shaped("linear_no_bias_token_bond.weight", 25, 1),
        r"linear_no_bias_token_bond.weight of shape \(25, 1\), expected \(24, 1\) for trunk.bond.weight",
    ),
    "wrong rank": (shaped("layernorm_s.weight", 384, 1), r"layernorm_s.weight of shape \(384, 1\), expected \(384,\)"),
    "a part of a stack too narrow": (
        shaped("pairformer_stack.blocks.0.tri_mul_in.linear_b_p.weight", 20, 23),
        r"linear_a_g.weight \+ .*linear_b_p.weight of shape .* \+ \(20, 23\), expected \(80, 24\) for",
    ),
    "parts of a stack of other heights": (
        shaped("pairformer_stack.blocks.0.tri_mul_in.linear_b_p.weight", 21, 24),
        r"linear_b_p.weight of shape .* \+ \(21, 24\), expected \(80, 24\) for",
    ),
    "another family": (
        renamed("linear_no_bias_z_cycle", "prev_z"),
        "not a Protenix checkpoint, it lacks linear_no_bias_z",
    ),
    "language model inputs": (shaped("input_embedder.linear_esm.weight", 449, 2560), "reads ESM embeddings"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_does_not_match_is_named(tmp_path: Path, fault: str) -> None:
    change, message = BAD[fault]
    path = tmp_path / "bad.pt"
    torch.save({"model": change(shapes_only(SMALL))}, path)
    with pytest.raises(WeightsError, match=message) as error:
        load_network(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class Payload:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"model": shapes_only(SMALL), "optimizer": Payload(made)}, tmp_path / "evil.pt")
    with pytest.raises(
        WeightsError, match=r"evil.pt \(.*\): refused, it holds more than tensors: builtins.getattr, pathlib"
    ):
        open_checkpoint(tmp_path / "evil.pt")
    assert not made.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert made.exists(), "the payload does nothing, so the test above shows nothing"


def damaged(path: Path, kind: str, good: Path) -> None:
    data = good.read_bytes()
    if kind == "cut in the middle":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "cut at the end":
        path.write_bytes(data[:-5])
    elif kind == "cut in the first bytes":
        path.write_bytes(data[:4])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a web page":
        path.write_bytes(b"<!DOCTYPE html><title>404</title>" * 9)
    elif kind == "an old pickle":
        torch.save({"model": {"a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=False)
    elif kind == "another zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("readme.txt", "nothing")
    elif kind == "numbers":
        torch.save({"model": {"a": torch.zeros(3), "step": 7}}, path)
    elif kind == "a list":
        torch.save([torch.zeros(3)], path)
    elif kind == "a network":
        torch.save(nn.Linear(2, 2), path)


KINDS = {
    "cut in the middle": "truncated",
    "cut at the end": "truncated",
    "cut in the first bytes": "truncated",
    "empty": "neither a torch checkpoint .* nor a safetensors file; was the download cut off",
    "a web page": "neither a torch checkpoint",
    "an old pickle": "neither a torch checkpoint",
    "another zip": "not a readable checkpoint",
    "numbers": "expected a dictionary of tensors",
    "a list": "expected a dictionary of tensors",
    "a network": "refused, it holds more than tensors: torch.nn.modules.linear.Linear$",
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_no_checkpoint(tmp_path: Path, folder: Path, kind: str) -> None:
    path = tmp_path / "x.pt"
    damaged(path, kind, folder / "trained.pt")
    with pytest.raises(WeightsError, match=KINDS[kind]) as error:
        load_network(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0.5, 0.999999, 1e-5])
def test_truncated_safetensors(tmp_path: Path, folder: Path, keep: float) -> None:
    data = (folder / "safe.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_network(path)


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pt", tmp_path):
        with pytest.raises(WeightsError, match="no such checkpoint file"):
            open_checkpoint(path)


def test_a_file_cut_off_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(100_000.0)}, path)
    checkpoint = open_checkpoint(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="truncated inside a"):
        checkpoint.read("a")


def test_views_and_dtypes_are_read_as_they_were(tmp_path: Path) -> None:
    """Tensors may share storage, be transposed, expanded, empty or of any dtype."""
    base = torch.arange(60.0).reshape(5, 12)
    tensors = {
        "slice": base[1:4, ::2],
        "turned": base.t(),
        "same": base,
        "expanded": torch.tensor([3.0, 4.0]).expand(5, 2),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(7.5),
        "half": base.bfloat16(),
        "integers": torch.arange(5),
    }
    torch.save({"model": tensors}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    for name, value in tensors.items():
        found = checkpoint.read(name)
        assert checkpoint.shapes[name] == tuple(value.shape)
        assert found.dtype == value.dtype and torch.equal(found, value), name


def test_precision_is_chosen_by_name(network: Network, folder: Path) -> None:
    def dtype_of(name: str) -> torch.dtype:
        return torch.float32 if name.startswith("trunk.input_encoder.") else torch.bfloat16

    loaded = load_network(folder / "trained.pt", dtype_of=dtype_of)
    for (name, ours), theirs in zip(loaded.named_parameters(), network.parameters(), strict=True):
        assert ours.dtype == dtype_of(name) and torch.equal(ours, theirs.to(ours.dtype)), name


def test_stages_can_be_loaded_one_by_one(network: Network, folder: Path) -> None:
    checkpoint, spec = open_model(folder / "trained.pt")
    with torch.device("meta"):
        part = Network(spec)
    load_parameters(part, checkpoint, ("confidence", "distogram"))
    for name, ours in part.named_parameters():
        loaded = name.split(".")[0] in ("confidence", "distogram")
        assert ours.is_meta is not loaded
        if loaded:
            assert torch.equal(ours, network.get_parameter(name))
    checkpoint.shapes.pop("linear_no_bias_sinit.weight")
    with pytest.raises(WeightsError, match="sinit"):  # the whole file is checked, whatever part is read
        load_parameters(part, checkpoint, ("confidence",))


def test_tensors_are_read_one_at_a_time(network: Network, folder: Path) -> None:
    """Beside the network, no more is held than the parts of one parameter and its stack."""
    checkpoint, spec = open_model(folder / "trained.pt")
    reads: list[tuple[str, int]] = []
    with torch.device("meta"):
        empty = Network(spec)

    def read(name: str) -> Tensor:
        filled = sum(p.nbytes for p in empty.parameters() if not p.is_meta)
        reads.append((name, filled))
        return checkpoint.read(name)

    load_parameters(empty, Checkpoint(checkpoint.path, checkpoint.shapes, read), ("",))
    assert len(reads) == len({name for name, _ in reads}) == len(checkpoint.shapes) - 2
    sizes = [torch.Size(checkpoint.shapes[name]).numel() * 4 for name, _ in reads]
    for (_, filled), before in zip(reads, [sum(sizes[:i]) for i in range(len(sizes))], strict=True):
        assert before - filled <= 8 * max(sizes), "parts are collected before they are put in place"


MEASURE = """
import resource, sys, torch
from pathlib import Path
from foldline.weights.load import load_network, open_model
torch.set_num_threads(1)
open_model(Path(sys.argv[1]))
torch.ones(1 << 20).sum()
def peak(): return int(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')))
def now(): return int(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmRSS')))
before = max(peak(), now())
network = load_network(Path(sys.argv[1]))
held = sum(p.nbytes for p in network.parameters())
print((peak() - before) * 1024, held)
assert "torch._dynamo" not in sys.modules, "the compiler was imported, which takes longer than to load"
"""


def test_loading_never_holds_two_copies(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder / "trained.pt")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    grown, held = map(int, done.stdout.split())
    assert held > 60e6, "too small to tell"
    assert grown < 1.35 * held, f"{grown / held:.2f} times the network"
