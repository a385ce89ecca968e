"""Whom the image's USER means, by the image's own files."""

from __future__ import annotations

import pytest

from faassupervisor.errors import CannotStartError
from faassupervisor.runners.identity import Identity, identity_of

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh",
    "# a comment",
    "broken:x:one:two:::",
    "worker:x:4321:8765:a worker:/home/worker:/bin/sh",
)
GROUP = ("root:x:0:", "workers:x:8765:", "helpers:x:999:somebody,worker", "more:x:1000:worker")


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("worker", Identity(4321, 8765, (999, 1000), "/home/worker")),
        ("4321", Identity(4321, 8765, (999, 1000), "/home/worker")),
        ("4321:helpers", Identity(4321, 999, (), "/home/worker")),
        ("worker:77", Identity(4321, 77, (), "/home/worker")),
        ("1234", Identity(1234, 0)),
        ("1234:5678", Identity(1234, 5678)),
        ("root", Identity(0, 0, (), "/root")),
    ],
)
def test_a_user_is_looked_up_as_container_engines_do(user: str, identity: Identity) -> None:
    assert identity_of(user, PASSWD, GROUP) == identity


@pytest.mark.parametrize(
    ("user", "says"), [("nobody", "/etc/passwd"), ("broken", "/etc/passwd"), ("worker:no", "/etc/group")]
)
def test_a_name_that_the_image_does_not_know_is_refused(user: str, says: str) -> None:
    with pytest.raises(CannotStartError, match=says) as refused:
        identity_of(user, PASSWD, GROUP)
    assert refused.value.exit_code == 126


def test_an_image_without_those_files_knows_numbers_only() -> None:
    assert identity_of("65532", (), ()) == Identity(65532, 0)
    with pytest.raises(CannotStartError):
        identity_of("root", (), ())
