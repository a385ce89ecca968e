"""What a bucket that scar makes is like, and what it does to one that exists."""

from __future__ import annotations

import json
from pathlib import Path

from scar.aws.resources.buckets import tls_only
from tests.support.account import ACCOUNT, REGION, Account, bucket_settings, dump_account, function
from tests.support.deploying import init, plan_init, rm

GOLDEN = Path(__file__).parent / "golden"
STATE = f"scar-state-{ACCOUNT}-{REGION}"


def test_every_bucket_that_is_made_is_private_encrypted_owned_whole_and_tls_only(acct: Account) -> None:
    """SE4."""
    init(acct.aws, function())
    for name in ("photos", STATE):
        bucket = bucket_settings(name)
        blocked = bucket["get_public_access_block"]["PublicAccessBlockConfiguration"]
        assert set(blocked.values()) == {True}
        assert len(blocked) == 4
        (rule,) = bucket["get_bucket_encryption"]["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        (owner,) = bucket["get_bucket_ownership_controls"]["OwnershipControls"]["Rules"]
        assert owner["ObjectOwnership"] == "BucketOwnerEnforced"
        assert json.loads(bucket["get_bucket_policy"]["Policy"]) == tls_only(name, "aws")
        tags = {tag["Key"]: tag["Value"] for tag in bucket["get_bucket_tagging"]["TagSet"]}
        assert tags["createdby"] == "scar"


def test_the_tls_only_policy() -> None:
    golden = json.loads((GOLDEN / "tls_only.json").read_text())
    assert tls_only("photos", "aws") == golden


def test_the_state_bucket_forgets_spills(acct: Account) -> None:
    init(acct.aws, function())
    rules = bucket_settings(STATE)["get_bucket_lifecycle_configuration"]["Rules"]
    expiring = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules if "Expiration" in rule}
    assert expiring == {"functions/": 14, "leases/": 1}


def test_a_bucket_that_is_made_ends_uploads_that_nobody_finished(acct: Account) -> None:
    """XF6, XF9: what a run leaves that was killed in the middle of a large output is bounded by S3's own rule."""
    init(acct.aws, function())
    (rule,) = bucket_settings("photos")["get_bucket_lifecycle_configuration"]["Rules"]
    assert rule["Status"] == "Enabled" and rule["Filter"] == {"Prefix": ""}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7} and "Expiration" not in rule


def test_a_bucket_that_exists_is_left_exactly_as_it_is(acct: Account) -> None:
    """SE4."""
    acct.aws.s3.create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
    acct.aws.s3.put_bucket_tagging(Bucket="photos", Tagging={"TagSet": [{"Key": "theirs", "Value": "1"}]})
    before = dump_account()["buckets"]["photos"]
    plan = plan_init(acct.aws, function())
    assert [str(resource.id) for resource in plan.unchanged] == ["bucket photos"]
    init(acct.aws, function())
    after = dump_account()["buckets"]["photos"]
    assert {**after, "notifications": {}} == before
    rm(acct.aws)
    assert dump_account()["buckets"]["photos"] == before


def test_the_plan_says_that_a_new_bucket_stays(acct: Account) -> None:
    assert "+ bucket photos  (new; rm leaves it)" in str(plan_init(acct.aws, function())).splitlines()
