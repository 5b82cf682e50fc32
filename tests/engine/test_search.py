"""A chain without an alignment is searched for where databases are configured, and only there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upstream_layout import SMALL, small_network, state

from foldline.config import EngineConfig
from foldline.engine import Engine, Prediction
from foldline.errors import InputError, SearchError
from foldline.execute import Event
from foldline.inputs import Job
from foldline.inputs.job import Polymer
from foldline.models.spec import ModelSpec

SEQUENCE = "MKWVTFISLLFLFSSAYSRGVFRRDAHKSEVAHRFKDLGEE"


def run(tmp_path: Path, events: list[Event], spec: ModelSpec = SMALL, **given: object) -> Prediction:
    path = tmp_path / "small.pt"
    torch.save({"model": state(small_network(spec), "module.")}, path)
    settings = {"samples": 1, "steps": 1, "recycles": 0, "device": "cpu", "threads": 1, "cache_dir": tmp_path / "cache"}
    engine = Engine(path, config=EngineConfig(**(settings | given)))
    job = Job("lone", (1,), (Polymer("protein", ("A",), SEQUENCE),))
    (prediction,) = engine.predict([job], out=tmp_path / "out", progress=events.append)
    return prediction


def test_the_way_from_a_bare_sequence(tmp_path: Path) -> None:
    database = tmp_path / "u.fasta"
    database.write_text(f">UniRef90_X one\n{SEQUENCE[2:]}\n>UniRef90_Y two\n{SEQUENCE[:-3].replace('FLF', 'FIF')}\n")
    search = {"databases": {"uniref90": str(database), "uniprot": str(database)}, "threads": 1}
    events: list[Event] = []
    prediction = run(tmp_path, events, search=search)
    assert prediction.error is None
    assert any("small_bfd, mgnify" in note for note in prediction.warnings)
    messages = [event.message for event in events if event.stage == "search" and event.message]
    assert messages[0] == "searching uniref90 for 1 sequence"
    written = json.loads((tmp_path / "out/lone/lone_data.json").read_text())["sequences"][0]["protein"]
    assert written["unpairedMsa"].count(">") == 3
    assert written["pairedMsa"].count(">") == 3
    again = run(tmp_path, events, search=search)
    assert again.skipped
    assert sum(event.message.startswith("searching") for event in events) == 2


def test_infer_does_not_search(tmp_path: Path) -> None:
    prediction = run(tmp_path, [], search={"databases": {"uniref90": "nowhere"}}, stage="infer")
    assert isinstance(prediction.error, InputError)
    assert "chain A has no unpaired and no paired alignment" in str(prediction.error)


def test_a_search_that_fails_is_the_jobs_error(tmp_path: Path) -> None:
    prediction = run(tmp_path, [], search={"databases": {"uniref90": "nowhere"}})
    assert isinstance(prediction.error, SearchError)
    assert prediction.error.stage == "search"
    assert "the database uniref90 (nowhere) is not in" in str(prediction.error)


def test_a_search_knows_the_networks_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rules choose the templates."""
    tables: list[dict[str, object]] = []
    monkeypatch.setattr("foldline.search.ahead.job_search", lambda table, *_, **__: tables.append(table))
    run(tmp_path, [], search={"threads": 1})
    assert tables == [{"threads": 1, "family": "protenix"}]


@pytest.mark.parametrize("n_template", [0, 1])
def test_templates_are_searched_for_where_the_network_reads_them(n_template: int, tmp_path: Path) -> None:
    """Without databases of alignments: the pdb_seqres that is named is not there, which only a search notices."""
    database = tmp_path / "u.fasta"
    database.write_text(f">UniRef90_X one\n{SEQUENCE[2:]}\n")
    named = {"uniref90": str(database), "uniprot": str(database), "pdb_seqres": "nowhere", "mmcif": "nowhere"}
    events: list[Event] = []
    spec = replace(SMALL, n_template=n_template)
    prediction = run(tmp_path, events, spec, search={"databases": named, "threads": 1})
    said = [event.message for event in events if "no templates are searched for" in event.message]
    if n_template:
        assert isinstance(prediction.error, SearchError) and "pdb_seqres" in str(prediction.error)
        assert said == []
        return
    assert prediction.error is None
    assert said == ["no templates are searched for: this network does not read them"]
    (written,) = json.loads((tmp_path / "out/lone/lone_data.json").read_text())["sequences"]
    assert not written["protein"].get("templates")
