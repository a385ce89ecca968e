"""CloudWatch Logs: names of groups, days of retention."""

from __future__ import annotations

import re
from typing import Any

from scar.limits import LOG_RETENTION_DAYS
from scar.local.address import Caller
from scar.local.refusal import RefusalError
from scar.local.services import action_of, as_json

Environ = dict[str, Any]


def check(environ: Environ, content: bytes, _: Caller) -> None:
    action, asked = action_of(environ, content), as_json(content)
    if action == "CreateLogGroup" and not re.fullmatch(r"[.\-_/#A-Za-z0-9]{1,512}", str(asked.get("logGroupName"))):
        raise RefusalError(
            400,
            "InvalidParameterException",
            f"1 validation error detected: Value '{asked.get('logGroupName')}' at 'logGroupName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+",
        )
    if action == "PutRetentionPolicy" and asked.get("retentionInDays") not in LOG_RETENTION_DAYS:
        raise RefusalError(
            400,
            "InvalidParameterException",
            f"1 validation error detected: Value '{asked.get('retentionInDays')}' at 'retentionInDays' failed to satisfy "
            f"constraint: Member must satisfy enum value set: {list(LOG_RETENTION_DAYS)}",
        )
