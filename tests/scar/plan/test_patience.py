"""`--wait-timeout` of init, plan and rm: how long a wait may take that AWS itself sets no limit to."""

from __future__ import annotations

import pytest

from scar.arguments import build
from scar.aws.clients import PATIENCE_S, Access, Aws
from scar.commands.steps import be_patient


@pytest.mark.parametrize("verb", ["init", "plan", "rm"])
@pytest.mark.parametrize(
    ("flags", "seconds"), [((), PATIENCE_S), (("--wait-timeout", "90"), 90), (("--wait-timeout", "5m"), 300)]
)
def test_the_wait_for_aws_is_as_long_as_was_said(verb: str, flags: tuple[str, ...], seconds: float) -> None:
    """T1-12"""
    aws = Aws(Access("eu-west-1"))
    be_patient(aws, build().parse_args([verb, "-f", "scar.yaml", *flags]))
    assert aws.patience_s == seconds
