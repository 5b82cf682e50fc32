"""Stages of errors, and faults of our own."""

import pytest

from foldline.errors import InternalError, WeightsError, during


def test_the_innermost_stage_stays() -> None:
    with pytest.raises(WeightsError) as caught, during("trunk"), during("weights"):
        raise WeightsError("torn")
    assert caught.value.stage == "weights"
    assert WeightsError("other").stage == ""


def test_an_unforeseen_error_is_one_sentence_with_its_traceback() -> None:
    try:
        raise KeyError("a\nb")
    except KeyError as error:
        made = InternalError(error)
    assert len(str(made).splitlines()) == 1 and str(made).startswith("unforeseen KeyError: ")
    assert 'raise KeyError("a' in made.details
