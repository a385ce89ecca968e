"""moto still has every name that the Lambda engine and the registry replace or call, with the parameters they know."""

from __future__ import annotations

from pathlib import Path

import pytest
from lambda_bench import Local

from scar.local.functions.hooks import HOOKED, USED, moto_name
from scar.local.hooks import check


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), HOOKED, ids=[f"{hook[0].__name__}.{hook[1]}" for hook in HOOKED]
)
def test_moto_has_what_is_replaced(owner: type, name: str, parameters: tuple[str, ...]) -> None:
    check({moto_name(owner, name): parameters})


@pytest.mark.parametrize("name", USED)
def test_moto_has_what_is_called(name: str) -> None:
    check({name: USED[name]})


def test_unhooking_leaves_moto_as_it_was(tmp_path: Path) -> None:
    before = {(owner, name): vars(owner).get(name) for owner, name, _ in HOOKED}
    with Local(tmp_path):
        assert before != {(owner, name): vars(owner).get(name) for owner, name, _ in HOOKED}
    assert before == {(owner, name): vars(owner).get(name) for owner, name, _ in HOOKED}
