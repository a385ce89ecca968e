"""The same seed breaks the same points."""

from __future__ import annotations

from tests.chaos.choice import Choice


def test_a_choice_is_the_seeds_and_the_names_and_has_both_ends() -> None:
    chosen = Choice(1).of("here", range(1000), 12)
    assert len(chosen) == 12 and chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, 999)
    assert chosen == Choice(1).of("here", range(1000), 12)
    assert chosen != Choice(2).of("here", range(1000), 12)
    assert chosen != Choice(1).of("there", range(1000), 12)


def test_the_whole_is_every_point_in_its_order() -> None:
    assert Choice(1, whole=True).of("here", range(1000), 12) == list(range(1000))
    assert Choice(1).of("here", range(5), 12) == list(range(5))
