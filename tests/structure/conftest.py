"""The component dictionary."""

import pytest

from foldline.chem.components import Components


@pytest.fixture(scope="session")
def components() -> Components:
    return Components.open()
