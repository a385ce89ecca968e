"""What everything of a function is called. Names are the state: the same function always gets the same ones.

A name that had to be cut or altered ends in a short digest of the original, so that two functions never share one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from scar import limits

ROLE_CHARS: Final = 64  # botocore iam:roleNameType
STATEMENT_CHARS: Final = 100  # botocore lambda:StatementId
REPOSITORY_CHARS: Final = 256
RULE_CHARS: Final = 64

# Objects of the state bucket
MEMBERS_PREFIX: Final = "members/"  # one empty object a function: the bucket goes with the last
CODE_PREFIX: Final = f"{limits.CODE_FOLDER}/"  # of this bucket, or of the one that a definition names
CREATING_PREFIX: Final = "creating/"  # one empty object for a user's bucket that is being made
LEASES_PREFIX: Final = "leases/"
SHARES_PREFIX: Final = "shares/"  # one empty object for each function that uses a shared place of Batch


def digest8(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def log_group(function: str) -> str:
    return f"/aws/lambda/{function}"


def role(function: str, region: str) -> str:
    """IAM's names are global to the account and blind to case, so the region is in it and capitals add a digest."""
    plain = f"scar-{function}-{region}"
    if len(plain) <= ROLE_CHARS and plain == plain.lower():
        return plain
    mark = digest8(plain)
    room = ROLE_CHARS - len("scar--") - len(region) - len(mark) - 1
    return f"scar-{function[:room]}-{region}-{mark}"


def repository(function: str) -> str:
    """ECR takes lower-case letters and digits joined by single separators; anything else adds a digest."""
    plain = re.sub(r"[^a-z0-9]+", "-", function.lower()).strip("-")
    if plain == function:
        return f"scar/{plain}"
    return f"scar/{plain}-{digest8(function)}" if plain else f"scar/{digest8(function)}"


def state_bucket(account: str, region: str) -> str:
    return f"scar-state-{account}-{region}"


def state_prefix(function: str) -> str:
    """Where a function's own objects live in the state bucket (spilled payloads, the ledger of its runs)."""
    return f"functions/{function}/"


def secret_parameters(function: str) -> str:
    """Below it are the SSM parameters with the credentials of the function's storage providers."""
    return f"/scar/{function}/"


def secret_parameter(function: str, provider: str) -> str:
    """Where the credentials of one storage provider (`minio.lab`) of a function lie."""
    return f"{secret_parameters(function)}{provider}"


def credentials_of(function: str, provider: str, given: str | None) -> str:
    """The SSM parameter with a provider's credentials: the one that the definition names, or the function's own."""
    return secret_parameter(function, provider) if given is None else given


def code_prefix(account: str, function: str) -> str:
    """Where the code of a zip function lies in a bucket: below it everything is that function's, and nothing else is."""
    return f"{CODE_PREFIX}{account}/{function}/"


def state_uri(account: str, region: str, function: str) -> str:
    """Where the agent of a function keeps what it must not forget, as it is told (contract.STATE)."""
    return f"s3://{state_bucket(account, region)}/{state_prefix(function)}"


def batch_place(function: str, *, fargate: bool, shared: str | None = None) -> str:
    """Name of the compute environment, and of the queue before it. What runs on Fargate and what runs on EC2 never take each other's place."""
    whose = f"shared-{shared}" if shared else function
    return f"scar-{whose}-fargate" if fargate else f"scar-{whose}"


def shares_prefix(place: str) -> str:
    """Below it are the marks of the functions that share a place: the place goes with the last."""
    return f"{SHARES_PREFIX}{place}/"


def job_definition(function: str, digest: str) -> str:
    """`digest` is of what it says (hex): another content is another definition, and jobs that wait keep theirs."""
    return f"{job_definitions_of(function)}{digest[:16]}"


def job_definitions_of(function: str) -> str:
    return f"scar-{function}-"


def is_job_definition_of(function: str, name: str) -> bool:
    """Exact, because one function's name may begin with another's."""
    return re.fullmatch(rf"scar-{re.escape(function)}-[0-9a-f]{{16}}", name) is not None


def batch_log_group(function: str) -> str:
    """Where the jobs of a function write: beside `/aws/batch/job`, Batch's own, which is everybody's and lasts for ever."""
    return f"/aws/batch/job/{function}"


def job_role(function: str, region: str) -> str:
    """A function's name has no dot, so the role of no function is called so."""
    return role(f"{function}.job", region)


def execution_role(function: str, region: str) -> str:
    return role(f"{function}.ecs", region)


def failure_rule(function: str) -> str:
    """botocore events:RuleName takes 64 characters."""
    plain = f"scar-{function}.failures"
    return plain if len(plain) <= RULE_CHARS else f"scar-{function[:40]}.{digest8(function)}.failures"


def instance_role(place: str, region: str) -> str:
    """Role and instance profile of a compute environment's machines."""
    return role(f"{place.removeprefix('scar-')}.ec2", region)


def api_key(function: str) -> str:
    """The API key of a function's REST API, and the usage plan that holds it."""
    return f"scar-{function}"


def statement_id(bucket: str) -> str:
    """Names the statement of a function's policy that lets one bucket invoke it."""
    return f"scar-{re.sub(r'[^a-zA-Z0-9_-]', '-', bucket)}-{digest8(bucket)}"


def notification_id(function: str, prefix: str) -> str:
    """Names one entry of a bucket's notifications as ours."""
    return f"scar-{function}-{digest8(prefix)}"


def is_notification_of(function: str, entry_id: str) -> bool:
    """Exact, because one function's name may begin with another's."""
    return re.fullmatch(rf"scar-{re.escape(function)}-[0-9a-f]{{8}}", entry_id) is not None


def notifying_function(entry_id: str) -> str | None:
    """The function whose entry this is, None for an entry that is not ours."""
    found = re.fullmatch(r"scar-([a-zA-Z0-9_-]+)-[0-9a-f]{8}", entry_id)
    return found[1] if found else None
