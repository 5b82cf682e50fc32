"""Any job survives the way to AlphaFold 3's text and back (property test)."""

import itertools
import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.inputs import AtomRef, Job, Ligand, Modification, Polymer, Template, Text, jobs_from_json, to_json
from foldline.inputs.checks import chain_name

WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\ufeff"), max_size=30)
CODES = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=5)
MSAS = st.one_of(st.just(""), WORDS.map(lambda text: f">query\n{text}"))
LETTERS = {"protein": "ACDEFGHIKLMNPQRSTVWYUX", "dna": "ACGTN", "rna": "ACGUN"}


@st.composite
def templates(draw: st.DrawFn, length: int) -> Template:
    query = draw(st.lists(st.integers(0, length - 1), unique=True, max_size=8))
    hits = draw(st.lists(st.integers(0, 5000), min_size=len(query), max_size=len(query)))
    return Template(Text(f"data_t\n{draw(WORDS)}"), tuple(query), tuple(hits))


@st.composite
def polymers(draw: st.DrawFn) -> Polymer:
    kind = draw(st.sampled_from(list(LETTERS)))
    sequence = draw(st.text(alphabet=LETTERS[kind], min_size=1, max_size=40))
    positions = draw(st.lists(st.integers(1, len(sequence)), unique=True, max_size=3))
    polymer = Polymer(
        kind,
        (),
        sequence,
        tuple(Modification(draw(CODES), position) for position in positions),
        description=draw(st.none() | WORDS),
    )
    if kind == "dna" or draw(st.booleans()):
        return polymer
    polymer = replace(polymer, unpaired_msa=Text(draw(MSAS)))
    if kind == "rna":
        return polymer
    given_templates = draw(st.none() | st.lists(templates(len(sequence)), max_size=3).map(tuple))
    return replace(polymer, paired_msa=Text(draw(MSAS)), templates=given_templates)


@st.composite
def ligands(draw: st.DrawFn) -> Ligand:
    description = draw(st.none() | WORDS)
    if draw(st.booleans()):
        return Ligand(
            (), smiles=draw(st.sampled_from(["CCO", "[Na+]", "C[C@H](N)C(=O)O", "C/C=C\\C"])), description=description
        )
    return Ligand((), tuple(draw(st.lists(CODES, min_size=1, max_size=4))), description=description)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    kinds = draw(st.lists(st.one_of(polymers(), ligands()), min_size=1, max_size=6))
    names = iter(draw(st.permutations([chain_name(i) for i in range(40)])))
    entities = []
    for entity, _ in itertools.groupby(kinds):  # equal neighbours are merged on writing
        copies = draw(st.integers(1, 4))
        entities.append(replace(entity, ids=tuple(itertools.islice(names, copies))))
    ends = [
        (name, residue)
        for entity in entities
        if not (isinstance(entity, Ligand) and entity.smiles)
        for name in entity.ids
        for residue in range(1, 1 + (len(entity.ccd_codes) if isinstance(entity, Ligand) else len(entity.sequence)))
    ]
    bonds = []
    if len(ends) > 1:
        pairs = st.lists(st.sampled_from(ends), min_size=2, max_size=2, unique=True).map(frozenset)
        for pair in draw(st.lists(pairs, max_size=3, unique=True)):
            one, other = sorted(pair)
            bonds.append((AtomRef(*one, "C1"), AtomRef(*other, "O4'")))
    seeds = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True))
    user_ccd = draw(st.none() | WORDS.map(lambda text: Text(f"data_X\n{text}")))
    return Job(draw(WORDS), tuple(seeds), tuple(entities), tuple(bonds), user_ccd)


@settings(max_examples=150, deadline=None)
@given(jobs())
def test_round_trip(job: Job) -> None:
    text = to_json(job)
    back, errors = jobs_from_json(text)
    assert not errors
    assert back == [job]
    assert to_json(back[0]) == text
    assert json.loads(text)["version"] == 4


@settings(max_examples=50, deadline=None)
@given(jobs())
def test_copies_written_one_by_one_are_merged(job: Job) -> None:
    split = [replace(entity, ids=(name,)) for entity in job.entities for name in entity.ids]
    assert to_json(replace(job, entities=tuple(split))) == to_json(job)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(jobs(), st.data())
def test_any_damage_is_a_fault_or_a_job(job: Job, data: st.DataObject) -> None:
    """A value put anywhere into a job never raises anything but faults with a path into the file."""
    value = json.loads(to_json(job))
    holder: object = value
    while True:
        assert isinstance(holder, dict | list)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            holder[key] = data.draw(JSON_VALUES)
            break
        holder = inner
    found, errors = jobs_from_json(json.dumps(value), source="job.json")
    assert bool(found) != bool(errors)
    assert all(error.path.startswith("$") and error.source == "job.json" for error in errors)
