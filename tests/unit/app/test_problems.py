"""All that is wrong is collected before anything is said."""

import pytest

from meshsigner.app.problems import Problems
from meshsigner.errors import ConfigurationError


def _broken() -> None:
    raise ConfigurationError("one", "two")


def test_nothing_wrong_lets_the_start_go_on() -> None:
    """Without problems a part is handed over and `settle` is silent."""
    problems = Problems()
    assert problems.attempt(lambda: 7) == 7
    problems.settle()


def test_problems_of_several_parts_come_together() -> None:
    """Each part's problems are kept, with where they are."""
    problems = Problems()
    assert problems.attempt(_broken) is None
    problems.attempt(_broken, where="here")
    problems.add("three")
    with pytest.raises(ConfigurationError) as caught:
        problems.settle()
    assert caught.value.problems == ("one", "two", "here: one", "here: two", "three")
