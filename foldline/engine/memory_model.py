"""Live device bytes of every stage at its fullest moment, as a sum of named terms that follows the algorithm.

Sizes and settings in, bytes out; nothing is measured here. `benchmarks/plan.py` holds it against counted bytes.

Letters as in the code: n tokens, P = lanes n^2 pairs, A atoms, r, q, w positions of a row block of `rows.pair`,
`rows.point` and `rows.msa`. While a streaming op makes a block it still holds a part of the one before.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from foldline.models.spec import ModelSpec
from foldline.ops import row_blocks
from foldline.ops.window_attention import N_KEY, N_QUERY, n_window

if TYPE_CHECKING:
    from foldline.engine.plan import Plan

Terms = dict[str, int]
CONDITIONING = "diffusion, conditioning"
# stages in the order in which they run, and whose weights they need
STAGES = {
    "input embedder": "trunk",
    "recycling": "trunk",
    "template embedder": "trunk",
    "MSA module": "trunk",
    "pairformer": "trunk",
    "distogram": "trunk",
    CONDITIONING: "diffusion",
    "diffusion, step": "diffusion",
    "confidence": "confidence",
}
# On a CPU, measured on Linux x86-64 with the heap of `foldline predict` (foldline/cli/restart.py): interpreter and
# torch 240 MB, kernels' buffers 45 MB, chemistry libraries 65 to 85 MB; and kernels of the stages after the trunk,
# twice as many where those run in another precision.
PROCESS_BYTES = 355_000_000
KERNELS_AFTER_TRUNK = {"trunk": 0, "diffusion": 10_000_000, "confidence": 18_000_000}
# oneDNN's kernels for the shapes of one more size, and what its full stores of them have; measured with torch 2.13.
KERNELS_OF_SIZE = {torch.float32: 42_000_000, torch.bfloat16: 48_000_000}
MOST_KERNELS = {torch.float32: 563_000_000, torch.bfloat16: 900_000_000}
# What jobs beside each other leave in the one store that is all threads': a set, and the most that it has; and what the
# heaps of their threads keep when one follows that is alone.
SHARED_KERNELS, MOST_SHARED_KERNELS, HEAPS_LEFT = 36_000_000, 320_000_000, 40_000_000
# The largest block that glibc takes from the heap; the share of a set of row blocks that stays there when they are
# freed, before the first diffusion step at most so much, and in the steps. What a group beside others keeps more than
# one alone: threads have arenas of their own. The most that holes between tensors take (see foldline/heap.py).
MOST_ON_HEAP, ROWS_BEFORE, MOST_ROWS_BEFORE, ROWS_IN_STEP = 1 << 25, 0.5, 3 << 23, 0.5
BESIDE, MOST_HOLES = 1.5, 1 << 27
# Of the thread that writes: bytes of an atom as mmCIF text and its columns (measured with 42,000 atoms: 1,400), bytes
# of a number while it becomes text, and how many of those do so at once.
ATOM_AS_TEXT, NUMBER_AS_TEXT, NUMBERS_AT_ONCE = 1_500, 48, 1 << 18
SAMPLES_AT_WRITER = 3  # one is written, one waits, one is handed over
WRITER_BESIDE = 8_000_000  # of a thread that scores further samples while others are written, measured
FLOAT, LONG = 4, 8


@dataclass(frozen=True)
class Sizes:
    """Sizes of one padded job."""

    n_token: int
    n_atom: int
    n_msa: int
    n_sample: int = 5
    n_seed: int = 1
    n_msa_drawn: int | None = None  # alignment rows that a pass reads at most; None = any number of them


class Block(NamedTuple):
    """Positions of the first row block, of the largest that follows (0: none does) and of the last."""

    full: int
    next: int
    last: int

    @classmethod
    def of(cls, n_row: int, n_column: int, positions: int) -> "Block":
        """The blocks that `row_blocks` makes."""
        step = next(row_blocks(n_row, n_column, positions)).stop
        count = -(-n_row // step)
        last = n_row - (count - 1) * step
        following = 0 if count == 1 else (step if count > 2 else last)
        return cls(step * n_column, following * n_column, last * n_column)

    def most(self, alone: int, left: int, new: int | None = None) -> int:
        """Most values held: `alone` per position in a block, or `left` of the one before beside `new` in the next."""
        return max(alone * self.full, left * self.full + (alone if new is None else new) * self.next)


def stage_terms(sizes: Sizes, spec: ModelSpec, p: "Plan") -> dict[str, Terms]:
    """Bytes of every term of every stage, at the moment when the stage holds most.

    Groups beside each other may all be in one stage, but for conditioning: one is in it, the others in any other.
    """
    weights, stages = parameter_bytes(spec, p), _group_terms(sizes, spec, p)
    own = _total(stages)
    beside = [own if one is p else _total(_group_terms(one.request.sizes, spec, one)) for one in p.beside]
    for name, terms in stages.items():
        if beside:
            terms["groups beside"] = sum(one[name] if name != CONDITIONING else _fullest(one) for one in beside)
        terms["weights"] = weights[STAGES[name]] if p.staged_weights else sum(weights.values())
    return {name: terms for name, terms in stages.items() if name != "template embedder" or spec.n_template}


def _group_terms(sizes: Sizes, spec: ModelSpec, p: "Plan") -> dict[str, Terms]:
    """Those of one group, without weights."""
    model = _Model(sizes, spec, p)
    stages = {
        "input embedder": model.input_embedder(),
        "recycling": model.recycling(),
        "template embedder": model.template_embedder(),
        "MSA module": model.msa_module(),
        "pairformer": model.pairformer(),
        "distogram": model.distogram(),
        CONDITIONING: model.conditioning(),
        "diffusion, step": model.step(),
        "confidence": model.confidence(),
    }
    for terms in stages.values():
        terms["features"] = model.features()
    return stages


def _total(stages: dict[str, Terms]) -> dict[str, int]:
    return {name: sum(terms.values()) for name, terms in stages.items()}


def _fullest(own: dict[str, int]) -> int:
    """The most of any stage but conditioning."""
    return max(size for name, size in own.items() if name != CONDITIONING)


def process_terms(sizes: Sizes, spec: ModelSpec, p: "Plan") -> dict[str, Terms]:
    """What a CPU process holds beside live tensors, for every stage.

    Row blocks are small enough to come from the heap, which keeps up to one set of them when they are freed, and of a
    diffusion step the smaller of two sets of activations. As many bytes again are holes between tensors where the heap
    caches small blocks. Kernels of what ran before stay; the more there are, the more often a new one replaces another.
    What is written is written beside the stages of the seed or the job that comes next.
    """
    items = {"trunk": p.trunk_dtype, "diffusion": p.diffusion_dtype, "confidence": p.confidence_dtype}
    most = MOST_KERNELS[p.trunk_dtype]
    before = round(most * (1 - math.exp(-p.request.process.kernel_sets * KERNELS_OF_SIZE[p.trunk_dtype] / most)))
    before += min(p.request.process.sets_beside * SHARED_KERNELS, MOST_SHARED_KERNELS)
    kernels = {s: before + KERNELS_AFTER_TRUNK[s] * (1 if items[s] == p.trunk_dtype else 2) for s in items}
    process = {"process": PROCESS_BYTES, "writing": writing_bytes(sizes, p), "drawn": drawn_bytes(sizes, p)}
    own = _heaps(sizes, spec, p)
    beside = [own if one is p else _heaps(one.request.sizes, spec, one) for one in p.beside]
    heaps = {name: size + int(BESIDE * sum(one[name] for one in beside)) for name, size in own.items()}
    if p.request.process.sets_beside and not p.request.beside:
        process["heaps left"] = HEAPS_LEFT
    process["holes"] = heaps["holes"] if p.request.process.cached_heap else 0
    return {name: process | {"kernels": kernels[stage], "heap": heaps[name]} for name, stage in STAGES.items()}


def _heaps(sizes: Sizes, spec: ModelSpec, p: "Plan") -> dict[str, int]:
    """What the heap keeps of one group in every stage, and its holes."""
    trunk, diffusion, confidence = (dtype.itemsize for dtype in p.precisions)
    items = {"trunk": trunk, "diffusion": diffusion, "confidence": confidence}
    r, several = Block.of(sizes.n_token, sizes.n_token, p.rows.pair), sizes.n_sample * sizes.n_seed > 1
    block = (spec.c_z + 9 * spec.n_head_tri_att * spec.c_tri_att) * r.full
    heaps = {n: min(int(ROWS_BEFORE * block * items[s]), MOST_ROWS_BEFORE) for n, s in STAGES.items()}
    heaps["diffusion, step"] = int(ROWS_IN_STEP * block * diffusion) + _kept_activations(sizes, spec, p)
    heaps["confidence"] = block * confidence + (WRITER_BESIDE if several else 0)
    return heaps | {"holes": min(block * FLOAT, MOST_HOLES)}


def _kept_activations(sizes: Sizes, spec: ModelSpec, p: "Plan") -> int:
    """What the heap keeps of a diffusion step's activations: those of atoms and of tokens are blocks of unequal sizes.

    Neither set fits where the other was, so the smaller one stays beside the larger; blocks that do not come from the
    heap leave nothing.
    """
    item, n_sample = p.diffusion_dtype.itemsize, p.diffusion_batch
    atom, token = n_sample * sizes.n_atom * spec.c_atom * item, n_sample * sizes.n_token * spec.c_token * item
    atoms = 13 * atom if atom <= MOST_ON_HEAP else 0
    hidden = 4 * token if 4 * token <= MOST_ON_HEAP else 0
    return min(atoms, 6 * token + hidden if token <= MOST_ON_HEAP else 0)


def writing_bytes(sizes: Sizes, p: "Plan") -> int:
    """What finished samples hold until their files are written: PAE, PDE, contacts of their seeds, and text."""
    groups = (p, *p.beside)
    pairs = max(one.request.sizes.n_token for one in groups) ** 2
    samples = min(SAMPLES_AT_WRITER + p.side_by_side - 1, sizes.n_sample * p.seeds_at_once)
    matrices = 2 * samples + p.seeds_at_once + 1  # the last one: PDE times contacts, or what is not finite
    atoms = max(one.request.sizes.n_atom for one in groups)
    text = ATOM_AS_TEXT * atoms + NUMBER_AS_TEXT * min(pairs, NUMBERS_AT_ONCE)
    return matrices * FLOAT * pairs + text


def drawn_bytes(sizes: Sizes, p: "Plan") -> int:
    """Positions of all samples of the seeds that run, which stay until they are scored."""
    drawn = sum(one.request.sizes.n_atom * one.seed_group for one in (p, *p.beside))
    return 3 * FLOAT * drawn * sizes.n_sample


def host_terms(sizes: Sizes, spec: ModelSpec, p: "Plan") -> Terms:
    """What a run on an accelerator holds on the host of its own tensors, beside the process and its libraries."""
    rests = p.park_pair or p.park_template
    return {
        "z": _Model(sizes, spec, p).pair() if rests else 0,
        "drawn": drawn_bytes(sizes, p),
        "writing": writing_bytes(sizes, p),
    }


def parameter_bytes(spec: ModelSpec, p: "Plan") -> dict[str, int]:
    """Bytes of the weights of each stage in the plan's precision."""
    total = {"trunk": 0, "diffusion": 0, "confidence": 0}
    for part, count in _parameters(spec).items():
        stage = part.split(".")[0]
        total["trunk" if stage == "distogram" else stage] += count * p.dtype_of(part).itemsize
    return total


@cache
def _parameters(spec: ModelSpec) -> dict[str, int]:
    """Number of values in every part of the network; found once, as it takes a part of a second."""
    from foldline.models.network import Network

    with torch.device("meta"):
        network = Network(spec)
    total: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        part = ".".join(name.split(".")[:2]) + "."
        total[part] = total.get(part, 0) + parameter.numel()
    return total


class _Model:
    """The terms of every stage for one job and one plan."""

    def __init__(self, sizes: Sizes, spec: ModelSpec, p: "Plan") -> None:
        self.sizes, self.spec, self.p = sizes, spec, p
        self.n, self.a, self.m = sizes.n_token, sizes.n_atom, min(sizes.n_msa, spec.max_msa)
        self.m_drawn = self.m if sizes.n_msa_drawn is None else min(sizes.n_msa_drawn, self.m)
        self.trunk, self.diff, self.conf = (d.itemsize for d in (p.trunk_dtype, p.diffusion_dtype, p.confidence_dtype))
        self.windows = n_window(self.a)

    # what stays from stage to stage

    def features(self) -> int:
        """Columns of tokens, atoms and alignment on the device; two templates."""
        per_token = 4 * self.spec.n_class + 5 * 4 + 2 * LONG + FLOAT + 2 * (LONG + 50) + 2 * self.m
        return self.n * per_token + self.a * (3 * FLOAT + 1 + FLOAT + 8 * LONG)

    def pair(self, lanes: int = 1, itemsize: int | None = None, c: int | None = None) -> int:
        """A pair representation."""
        return lanes * self.n**2 * (c or self.spec.c_z) * (itemsize or self.trunk)

    def singles(self, lanes: int) -> int:
        """s and s_inputs, and s_inputs in the trunk's precision."""
        low = self.trunk if self.trunk != FLOAT else 0
        return lanes * self.n * (self.spec.c_s * self.trunk + self.spec.c_s_inputs * (FLOAT + low))

    def waiting(self, running: int) -> int:
        """Pair representations of the seeds of a group that are not running."""
        return (self.p.seed_group - running) * (self.pair() + self.singles(1))

    def held(self, lanes: int) -> Terms:
        """z and the singles of the seeds that run and of those that wait."""
        terms = {"z": self.pair(lanes), "singles": self.singles(lanes)}
        return terms | ({"z of other seeds": self.waiting(lanes)} if self.p.seed_group > lanes else {})

    # trunk

    def input_embedder(self) -> Terms:
        """Atom encoder without trunk, in float32."""
        spec, lanes = self.spec, self.p.seed_group
        c_token = spec.c_s_inputs - 2 * spec.n_class - 1
        biases, made, conditions = self._atom_conditions(lanes, spec.n_atom_input, FLOAT, 0)
        atom = lanes * self.a * spec.c_atom * FLOAT
        running = conditions + max(10 * atom, atom + 2 * lanes * self.a * c_token * FLOAT)
        return {"window biases": biases, "atoms": max(made, running)}

    def recycling(self) -> Terms:
        """z row by row; z_init is never held."""
        q = self._block(self.p.rows.point, self.p.seed_batch)
        # positions are the same for all lanes, and so is their encoding
        alike = (self.spec.c_z * self.trunk + 3 * LONG) * q.full // self.p.seed_batch
        rows = 3 * self.spec.c_z * self.trunk * q.full + alike
        vectors = self.p.seed_batch * self.n * (2 * self.spec.c_s + 2 * self.spec.c_z) * self.trunk
        return self.held(self.p.seed_batch) | {"row blocks": rows + vectors}

    def template_embedder(self) -> Terms:
        """Sum and current template of c_template channels, and the pair block of one of them."""
        spec, lanes, item = self.spec, self.p.seed_batch, self.trunk
        if not spec.n_template:
            return {}
        q = self._block(self.p.rows.point, lanes)
        two = 2 * self.pair(lanes, c=spec.c_template)
        geometry = max(100 * FLOAT + 2 * spec.c_template * item, (spec.c_z + 2 * spec.c_template) * item) * q.full
        block = self._pair_block(lanes, item, _Widths.template(spec))
        terms = self.held(lanes) | {"sum and template": two, "pair block": max(block, geometry)}
        if self.p.park_template:
            # z is back on the device for the last step, when the template and its pair block are gone
            least = self.pair(lanes) - two // 2
            terms["z"] = 0
            terms["pair block"] = max(terms["pair block"], least + (spec.c_z + spec.c_template) * item * q.full)
        return terms

    def msa_module(self) -> Terms:
        """m beside z; two projections of m in the outer product mean, the pair's weights in the averaging."""
        spec, lanes, item, rows = self.spec, self.p.seed_batch, self.trunk, self.p.rows
        cells = lanes * self.m_drawn * self.n
        w = Block.of(self.m_drawn, self.n * lanes, rows.msa)
        r, half = self._block(rows.pair, lanes), self._block(rows.pair // 2, lanes)
        opm = spec.c_opm
        projections = (spec.c_m + 2 * opm) * w.full
        products = (2 * opm**2 + spec.c_z) * half.full
        mean = 2 * opm * cells + max(projections, products)
        heads = spec.n_head_pwa * spec.c_pwa
        averaged = max(4 * heads, spec.c_m + 2 * heads) * w.full
        weighted = lanes * self.n**2 * spec.n_head_pwa + max(averaged, 2 * spec.c_z * r.full)
        updates = max(mean, 0 if spec.n_msa == 1 else max(weighted, self._transition(spec.c_m, 4, cells)))
        block = max(updates * item, self._pair_block(lanes, item, _Widths.trunk(spec)))
        return self.held(lanes) | {"m": cells * spec.c_m * item, "drawn rows": 2 * cells, "updates": block}

    def pairformer(self) -> Terms:
        """One operand of the triangle multiplication, or biases, beside z."""
        lanes = self.p.seed_batch
        return self.held(lanes) | {"pair block": self._pairformer_block(lanes, self.trunk)}

    def distogram(self) -> Terms:
        """Contact probabilities in float32; logits by rows."""
        q = self._block(self.p.rows.point, self.p.seed_batch)
        bins = self.spec.n_distogram
        logits = q.most(3, 1) * FLOAT if self.trunk == FLOAT else q.full * (2 * FLOAT + self.trunk)
        contact = self.p.seed_batch * self.n**2 * FLOAT
        return self.held(self.p.seed_batch) | {"contacts": contact, "row blocks": logits * bins}

    # diffusion

    @property
    def drawn(self) -> int:
        """Seeds of a diffusion batch."""
        return -(-self.p.diffusion_batch // self.sizes.n_sample)

    def trunk_results(self) -> Terms:
        """What the trunk left for all seeds of the group; z may rest elsewhere."""
        z = 0 if self.p.park_pair else self.p.seed_group * self.pair()
        return {"trunk's z": z, "singles": self.p.seed_group * self.singles(1)}

    def conditioning(self) -> Terms:
        """Pair conditioning from the trunk's z; atom conditions; and, where they are kept, all attention biases."""
        spec, lanes, item = self.spec, self.drawn, self.diff
        q = self._block(self.p.rows.point, lanes)
        # the rows' positions, both beside each other, normed, and the result; the last of them stay
        transition = 3 * spec.c_z * q.last + self._transition(spec.c_z, 2, lanes * self.n**2)
        rows = max(6 * spec.c_z * q.full, transition)
        atoms = self._atom_conditions(lanes, spec.n_atom_encoder + spec.n_atom_decoder, item, spec.c_z)
        making = sum(atoms[:1]) + max(atoms[1:])
        biases = atoms[0] + atoms[2] + self._biases(lanes) + self._bias_rows(lanes, spec.n_head_token) * item
        most = max(rows * item, making, biases if self.p.keep_biases else 0)
        return self.trunk_results() | {"pair conditioning": self.pair(lanes, item), "rows, atoms, biases": most}

    def step(self) -> Terms:
        """One denoising step: atoms, then tokens with the bias of one block where biases are not kept."""
        spec, lanes, item, n_sample = self.spec, self.drawn, self.diff, self.p.diffusion_batch
        biases, _, conditions = self._atom_conditions(lanes, spec.n_atom_encoder + spec.n_atom_decoder, item, spec.c_z)
        atom, token = n_sample * self.a * spec.c_atom * item, n_sample * self.n * spec.c_token * item
        # conditions of one block belong to a seed, not to a sample
        tokens = atom + 10 * token + 6 * lanes * self.n * spec.c_token * item
        kept = self._biases(lanes) if self.p.keep_biases else self.pair(lanes, item)
        if not self.p.keep_biases:
            bias = lanes * self.bias_values * spec.n_head_token * item
            tokens = bias + max(tokens, atom + 3 * token + self._bias_rows(lanes, spec.n_head_token) * item)
        atoms = max(13 * atom, atom + 2 * n_sample * self.a * spec.c_token * item)
        single = 2 * lanes * self.n * spec.c_s * item
        return self.trunk_results() | {
            "biases" if self.p.keep_biases else "pair conditioning": kept,
            "atom conditions": biases + conditions,
            "activations": max(atoms, tokens) + 4 * n_sample * self.a * 3 * FLOAT + single,
        }

    # confidence

    def confidence(self) -> Terms:
        """Samples one after the other: a pair of its own beside the trunk's, and the operand of a block."""
        spec, item, lanes = self.spec, self.conf, self.p.seed_batch
        q = self._block(self.p.rows.point, lanes)
        own = self.pair(lanes, item)
        rows_as_float = 2 if item == FLOAT else 3
        errors = q.most(rows_as_float * spec.c_z + 2 * spec.n_pae, 3 * spec.n_pae) * FLOAT
        embedding = 4 * spec.c_z * item * q.full
        block = self._pairformer_block(lanes, item)
        terms = self.trunk_results()
        if self.sizes.n_sample == self.p.seed_group == 1 and not self.p.park_pair:
            # an only sample is scored in the trunk's own memory, or the trunk's z is given up before the stack
            if item == self.trunk:
                own = 0
            else:
                terms["trunk's z"] -= self.pair()
                embedding += self.pair()
        samples = lanes * self.a * 3 * FLOAT
        return terms | {"sample's z": own, "pair block, heads": max(block, errors, embedding), "samples": samples}

    # parts

    @property
    def bias_values(self) -> int:
        """Values of one head's attention bias, whose rows begin at multiples of 8 on an accelerator."""
        step = 1 if self.p.request.device == "cpu" else 8
        return self.n * -(-self.n // step) * step

    def _block(self, positions: int, lanes: int) -> Block:
        return Block.of(self.n, self.n * lanes, positions)

    def _biases(self, lanes: int) -> int:
        """Attention biases of all diffusion blocks."""
        return lanes * self.bias_values * self.spec.n_head_token * self.spec.n_diffusion * self.diff

    def _bias_rows(self, lanes: int, n_head: int) -> int:
        """Values beside an attention bias while it is made: normed rows, and those before or what is made of them.

        Rows of several lanes do not lie together where they are not all rows: a norm copies them.
        """
        c_z, r = self.spec.c_z, self._block(self.p.rows.pair, lanes)
        return r.most(c_z + max(n_head, c_z if lanes > 1 and r.next else 0), c_z)

    def _transition(self, c: int, n: int, positions: int) -> int:
        """Values that a transition holds: hidden layer 2 n c, its product n c, and the update."""
        return (3 * n + 1) * c * Block.of(positions, 1, self.p.rows.point).full

    def _pair_block(self, lanes: int, item: int, c: "_Widths") -> int:
        """Largest of triangle multiplication, triangle attention and transition, beside the pair itself."""
        pairs = lanes * self.n**2
        r = self._block(self.p.rows.pair, lanes)
        alone = self._block(self.p.rows.pair, 1)
        # the gated projection of several lanes is a view that a product copies
        projected = 3 if lanes == 1 else 4
        multiplication = pairs * c.operand + (c.pair + projected * c.operand) * r.full
        attention = lanes * self.bias_values * c.heads + max(c.pair + 4 * c.attention, 6 * c.attention) * alone.full
        return max(multiplication, attention, self._transition(c.pair, c.transition, pairs)) * item

    def _pairformer_block(self, lanes: int, item: int) -> int:
        """The pair block, or the attention of the single representation with its bias."""
        spec = self.spec
        bias = lanes * self.bias_values * spec.n_head_single
        single = bias + max(self._bias_rows(lanes, spec.n_head_single), 10 * spec.c_s * lanes * self.n)
        return max(self._pair_block(lanes, item, _Widths.trunk(spec)), single * item)

    def _atom_conditions(self, lanes: int, n_block: int, item: int, c_z: int) -> tuple[int, int, int]:
        """Window biases of all blocks; what is held while they are made; conditions of all blocks.

        Window pairs are made in blocks; with a trunk, the pair conditioning is gathered for them (c_z).
        """
        spec = self.spec
        pairs = N_QUERY * N_KEY * lanes
        w = Block.of(self.windows, pairs, self.p.rows.point * 8)
        biases = n_block * pairs * self.windows * spec.n_head_atom * item
        channels = spec.c_atompair * item
        gathered = (2 * c_z + spec.c_atompair) * item + 5 * FLOAT
        layers = 4 * channels + 6 * FLOAT
        atom = lanes * self.a * spec.c_atom * item
        conditions = (8 * n_block + 1) * atom
        made = 4 * atom + w.most(max(gathered, layers), channels)
        # the pairs of the last block are still there when the conditions are made
        return biases, max(made, conditions + atom + channels * w.last), conditions


class _Widths(NamedTuple):
    """Channels of a pair block."""

    pair: int
    operand: int
    attention: int  # all heads
    heads: int
    transition: int

    @classmethod
    def trunk(cls, spec: ModelSpec) -> "_Widths":
        return cls(spec.c_z, spec.c_tri_mul, spec.n_head_tri_att * spec.c_tri_att, spec.n_head_tri_att, 4)

    @classmethod
    def template(cls, spec: ModelSpec) -> "_Widths":
        heads = spec.n_head_tri_att_template
        return cls(spec.c_template, spec.c_tri_mul_template, heads * spec.c_tri_att, heads, 2)
