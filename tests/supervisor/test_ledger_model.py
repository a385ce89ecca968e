"""All that can happen to one record, searched whole: invocations, retries, duplicates, jobs, kills, lost answers, late writes, stale lists.

Asserted in every state and at every end (see `ledger_model.World`): outputs are published by nobody whose entry is not `publishing`;
never by a second while the first lives or after it said that it is done; what is done is not written any more; in Lambda no script runs after a kill, and in mode batch never;
of one hand-over one job runs the script at a time; `delegated` names a job that exists; no event disappears; it ends as done, with
the outputs of one run, or as failed, or with a job that Batch shows as FAILED.
"""

from __future__ import annotations

import pytest

from tests.supervisor.ledger_model import Violation, World, search

OK = ("ok",)
SLOW = ("slow",)


def test_a_kill_and_a_lost_answer_anywhere_in_the_life_of_one_event() -> None:  # TM2, TM7, TM9, TM10, TM15, TM16
    found = search(World(crashes=1, losses=1))
    assert found.states > 20_000
    assert {"done in lambda", "done in batch", "failed in lambda", "failed in batch"} <= found.ends.keys()


def test_a_kill_and_two_lost_answers_around_a_publication() -> None:
    assert search(World(requests=("r1:iikkk",), crashes=1, losses=2, script=OK, job_script=OK)).states > 10_000


def test_two_kills_and_a_job_that_batch_tries_again() -> None:  # BA8
    found = search(World(requests=("r1:iikkk",), crashes=2, attempts=2, script=SLOW, job_script=OK))
    assert found.ends["done in batch"] > 0


def test_a_job_that_is_late_with_its_lease_and_one_that_renews_it() -> None:
    found = search(World(requests=("r1:iikk",), ticks=2, attempts=2, script=SLOW, job_script=OK))
    assert found.ends.keys() == {"done in batch"}


def test_a_second_event_for_the_same_object_and_a_kill() -> None:  # TM11
    found = search(World(requests=("r1:iikk", "r2:iikk"), crashes=1, script=OK, job_script=OK))
    assert found.states > 5_000


def test_a_second_event_for_the_same_object_while_time_runs_out() -> None:  # TM3, TM9
    found = search(World(requests=("r1:ii", "r2:ii"), ticks=1, script=SLOW, job_script=OK))
    assert found.ends.keys() == {"done in batch"}


def test_the_on_failure_path_speaks_of_a_leg_that_still_publishes() -> None:
    found = search(World(requests=("r1:i", "r1:k"), script=OK, job_script=OK))
    assert found.ends.keys() == {"done in lambda", "done in batch"}


def test_a_script_fails_or_runs_out_of_time_after_it_was_said_to_be_dead() -> None:
    found = search(World(requests=("r1:i", "r1:k"), script=("fails",), job_script=OK))
    assert found.ends.keys() == {"failed in lambda", "done in batch"}


def test_two_legs_of_one_request_hand_over_at_once() -> None:  # TM11
    found = search(World(requests=("r1:i", "r1:k"), script=SLOW, job_script=OK))
    assert found.ends.keys() == {"done in batch"}


@pytest.mark.parametrize("wrong", [{"crashes": 1}, {"stale": 1}], ids=str)
def test_a_lost_answer_of_submit_job_and_worse(wrong: dict[str, int]) -> None:  # TM7, TM8, TM10
    found = search(World(mode="batch", requests=("r1:iik",), losses=1, job_script=OK, **wrong))  # type: ignore[arg-type]
    assert found.ends["done in batch"] > 0


def test_a_hand_over_that_is_given_up_though_its_job_was_made() -> None:  # TM8
    found = search(World(mode="batch", requests=("r1:ig",), losses=1, stale=4, job_script=OK))
    assert found.ends.keys() == {"failed in lambda", "done in batch"}


@pytest.mark.parametrize("mode", ["lambda-batch", "batch"])
def test_the_search_sees_what_a_store_without_conditions_does(mode: str) -> None:
    with pytest.raises(Violation):
        search(World(mode=mode, requests=("r1:iik", "r2:iik"), conditional=False))  # type: ignore[arg-type]
