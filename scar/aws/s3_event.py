"""What would S3 send for an object that is there already? The event of one object, each a document of its own.

Source: AmazonS3/latest/userguide/notification-content-structure. It has neither `sequencer` nor `versionId`: those name an upload that the ledger
of a function may know already, and who asks for a run wants one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from scar.aws.objects import Object


def created(bucket: str, item: Object, *, region: str, partition: str = "aws") -> bytes:
    """One record, as if the object had been uploaded just now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": now,
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "scar"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "scar-run",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "scar"},
                "arn": f"arn:{partition}:s3:::{bucket}",
            },
            "object": {
                # S3 encodes keys as a form does: a space is '+', a slash stays
                "key": quote_plus(item.key, safe="/"),
                "size": item.size,
                "eTag": item.etag.strip('"'),
            },
        },
    }
    return json.dumps({"Records": [record]}).encode()
