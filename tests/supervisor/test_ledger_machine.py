"""Random walks where the exhaustive search would never end: two events, a duplicate, and two of everything that goes wrong.

Each walk ends fairly: nothing more goes wrong, and whatever is due is delivered. Then the record has to be done or failed.
"""

from __future__ import annotations

from typing import Literal

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.supervisor.ledger_model import World
from tests.supervisor.ledger_programs import Programs


class Walk(RuleBasedStateMachine):
    @initialize(mode=st.sampled_from(["lambda-batch", "batch"]))
    def begins(self, mode: Literal["lambda-batch", "batch"]) -> None:
        events = ("r1:iikkkkkk", "r1:ii", "r2:iikkkkkk")
        self.world = World(mode, events, crashes=2, losses=2, stale=2, ticks=2, attempts=3)
        self.programs = Programs()
        self.state = self.world.first()

    @rule(choices=st.lists(st.integers(0, 2**16), min_size=1, max_size=12))
    def something_happens(self, choices: list[int]) -> None:
        for choice in choices:
            made = list(self.world.successors(self.state, self.programs))
            if made:
                what, self.state = made[choice % len(made)]
                note(what)
                self.world.check(self.state)

    def teardown(self) -> None:
        self.state = self.state._replace(crashes=0, losses=0, stale=0, ticks=0)
        while made := list(self.world.successors(self.state, self.programs)):
            what, self.state = made[0]
            note(f"then {what}")
            self.world.check(self.state)
        self.world.check_end(self.state)


Walk.TestCase.settings = settings(derandomize=True, max_examples=150, stateful_step_count=12, deadline=None)
test_every_walk_ends_with_the_record_done_or_failed = Walk.TestCase
