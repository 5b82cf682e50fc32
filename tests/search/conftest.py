"""Queries and a small database of each kind."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import made_databases


@pytest.fixture(scope="session")
def queries() -> dict[str, list[str]]:
    protein = [made_databases.sequence("protein", length, 1) for length in (90, 160)]
    protein[1] = protein[1][:40] + "XUB" + protein[1][43:]
    rna = [made_databases.sequence("rna", length, 2) for length in (44, 120)]
    rna[1] = rna[1][:20] + "N" + rna[1][21:]
    return {"protein": protein, "rna": rna}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, queries: dict[str, list[str]]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("databases")
    return {kind: made_databases.write(folder / f"{kind}.fasta", kind, queries[kind]) for kind in queries}


@pytest.fixture
def hmmer() -> None:
    if shutil.which("jackhmmer") is None:
        pytest.skip("the HMMER programs are not on the PATH")
