"""moto still has every name that the Lambda engine and the registry replace or call, with the parameters they know."""

from __future__ import annotations

import pytest

from scar.local.functions.hooks import HOOKED, USED
from scar.local.hooks import check


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), HOOKED, ids=[f"{hook[0].__name__}.{hook[1]}" for hook in HOOKED]
)
def test_moto_has_what_is_replaced(owner: type, name: str, parameters: tuple[str, ...]) -> None:
    check({f"{owner.__module__}:{owner.__name__}.{name}": parameters})


@pytest.mark.parametrize("name", USED)
def test_moto_has_what_is_called(name: str) -> None:
    check({name: USED[name]})
