"""What several keys have in common: the rules for names, profiles, regions and environments, and sentences used more than once."""

from __future__ import annotations

from typing import Final

from faassupervisor import contract
from scar import limits
from scar.fdl.key import Names, Pattern

LAMBDA_GUIDE: Final = "AWS Lambda developer guide, gettingstarted-limits"
BATCH_GUIDE: Final = "AWS Batch API reference"

PROFILE: Final = Pattern(
    r"[^\s\[\]]{1,255}", says="the name of a profile in the AWS configuration files, without spaces"
)
REGION: Final = Pattern(
    limits.REGION_PATTERN, says="the name of an AWS region, such as `eu-west-1`", source="AWS general reference, rande"
)
# What the agent is told of where it stands: set for functions and jobs by `init`.
SITE_NAMES: Final = frozenset(
    {
        contract.STATE, contract.JOB_QUEUE, contract.JOB_DEFINITION, contract.JOB_NODES, contract.TASK, contract.GANG, contract.NODE_ADDRESS,
    }
)  # fmt: skip
LAMBDA_NAMES: Final = Names(
    limits.ENVIRONMENT_NAME_PATTERN,
    says="a letter, then at least one letter, digit or _",
    reserved=limits.RESERVED_ENVIRONMENT,
    reserved_by="Lambda keeps it for itself",
    bytes_=limits.LAMBDA_ENVIRONMENT_BYTES,
    source=LAMBDA_GUIDE,
)
PAYLOAD_VARIABLE: Final = "SCAR_PAYLOAD_DIR"  # where `extra_payload` is, for the user's process
# The names that the agent sets for every run; a user's value would never be seen.
AGENT_NAMES: Final = frozenset(
    {
        contract.INPUT_FILE_PATH, contract.TMP_INPUT_DIR, contract.TMP_OUTPUT_DIR, contract.STORAGE_OBJECT_KEY, contract.EVENT_TIME,
        contract.EVENT, contract.REQUEST_ID, contract.AWS_LAMBDA_REQUEST_ID, contract.INSTANCE_IP, contract.EVENT_FILE,
        contract.SCAR_FUNCTION, contract.SCAR_BUCKET, contract.SCAR_SEQUENCER, contract.ATTEMPT, contract.IDEMPOTENCY_KEY,
        contract.HOSTFILE, contract.NUM_NODES, contract.NODE_INDEX, contract.MAIN_HOST, PAYLOAD_VARIABLE, *SITE_NAMES,
    }
)  # fmt: skip
PROCESS_NAMES: Final = Names(
    r"[^=\s\x00-\x1f\x7f]{1,255}",
    says="1 to 255 characters without `=` or spaces",
    reserved=AGENT_NAMES,
    reserved_by="SCAR sets it for every run",
)
JOB_NAMES: Final = Names(
    r"(?!AWS_BATCH)[^=\s\x00-\x1f\x7f]{1,255}",
    says="1 to 255 characters without `=` or spaces, not beginning with `AWS_BATCH`",
    reserved=AGENT_NAMES | {"AWS_REGION", "AWS_DEFAULT_REGION"},
    reserved_by="SCAR sets it for every run",
    source=BATCH_GUIDE,
)
TAG_NAMES: Final = Names(
    limits.TAG_NAME_PATTERN,
    says="1 to 128 letters, digits, spaces or any of `_.:/=+@-`, not beginning with `aws:`",
    reserved_prefixes=("scar:",),
    reserved_by="SCAR marks what it owns with such tags",
    entries=40,  # of limits.TAGS_PER_RESOURCE: the rest is for SCAR's own
    value=Pattern(limits.TAG_VALUE_PATTERN, says="at most 256 letters, digits, spaces or any of `_.:/=+@-`"),
    source="AWS Lambda API reference, Tags",
)
ENVIRONMENT_DOC: Final = "Numbers and truth values become the text that was written, so `1.10` stays `1.10`; a variable that is null is not set at all."
