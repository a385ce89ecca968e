"""moto still has every name that is hooked, and a moved one is said by name."""

from __future__ import annotations

import pytest

from scar.local import hooks

LATE = {name: wanted for names in hooks.LATE_NAMES.values() for name, wanted in names.items()}


@pytest.mark.parametrize("name", [*hooks.NAMES, *LATE])
def test_moto_still_has(name):
    hooks.check({name: {**hooks.NAMES, **LATE}[name]})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("moto.s3.models:FakeKey.gone", None),
        ("moto.s3.gone:FakeKey", None),
        ("moto.s3.models:S3Backend.put_object", ("self", "renamed")),
    ],
)
def test_a_moved_name_is_an_error_that_names_it(name, parameters):
    with pytest.raises(hooks.MovedError) as moved:
        hooks.check({name: parameters})
    assert name in str(moved.value)
    assert "scar[local]" in str(moved.value)
