"""The component dictionary, and conformers in a folder of their own."""

from collections.abc import Iterator

import pytest

from foldline.chem.components import Components
from foldline.chem.conformers import Conformers


@pytest.fixture(scope="session")
def components() -> Components:
    return Components.open()


@pytest.fixture(scope="session")
def conformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformers]:
    source = Conformers(tmp_path_factory.mktemp("conformers"))
    yield source
    source.close()
