from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.account import Account, account


@pytest.fixture(scope="module")
def _one() -> Iterator[Account]:
    with account() as made:
        yield made


@pytest.fixture
def acct(_one: Account) -> Account:
    """An empty account, and the clients of the module."""
    _one.reset()
    return _one
