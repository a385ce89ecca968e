"""A definition file of SCAR 4's documentation, in its own form, makes everything that it asks for: T1-08, T1-25."""

from __future__ import annotations

import json
from pathlib import Path

from scar.fdl import load
from scar.fdl.configuration import load as configuration
from scar.fdl.configuration import under
from tests.support.account import Account, notifications
from tests.support.batch_account import GROUPS, SUBNETS
from tests.support.deploying import init, plan_init

CASE = Path(__file__).parents[1] / "cases" / "fdl" / "good" / "plants-of-scar-4.yaml"


def test_the_plants_are_made_with_the_network_of_scar_4s_configuration_and_left_alone_after(
    acct: Account, tmp_path: Path
) -> None:
    """T1-08: function, bucket, notification, environment, queue and definition exist; a second init has nothing to do."""
    network = {"subnets": list(SUBNETS), "security_group_ids": list(GROUPS)}
    path = tmp_path / "scar.cfg"
    path.write_text(json.dumps({"scar": {}, "aws": {"batch": {"compute_resources": network}}}))
    below = configuration(path)
    lines = CASE.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(
        line for line in lines if not line.strip().startswith(("- sg-", "- subnet-", "subnets:", "security_group_ids:"))
    )
    (fn,) = load.parse(text, str(CASE), CASE.parent, below=lambda root: under(root, below)).functions
    assert fn.batch.compute_resources.subnets == tuple(SUBNETS)
    init(acct.aws, fn)
    assert not plan_init(acct.aws, fn)
    made = acct.dump()
    (environment,) = made["compute environments"].values()
    assert environment["request"]["computeResources"]["instanceTypes"] == ["g4dn.xlarge"]
    assert len(made["job queues"]) == len(made["job definitions"]) == len(made["functions"]) == 1
    assert "scar-plants/input" in json.dumps(made["functions"], default=str)
    (filtered,) = notifications("scar-plants")["LambdaFunctionConfigurations"]
    assert "input/" in json.dumps(filtered)
