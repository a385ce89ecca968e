"""AWS says no: one refusal, in the wire form that the caller's SDK reads it in."""

from __future__ import annotations

import json
from typing import Literal
from xml.sax.saxutils import escape

Protocol = Literal["s3", "rest-json", "json", "query"]

_PROTOCOLS: dict[str, Protocol] = {
    "s3": "s3",
    "lambda": "rest-json",
    "batch": "rest-json",
    "apigateway": "rest-json",
    "logs": "json",
    "ecr": "json",
    **dict.fromkeys(("events", "ssm", "tagging", "dynamodb", "secretsmanager", "kms", "states", "ecs"), "json"),
    **dict.fromkeys(("scheduler", "elasticfilesystem"), "rest-json"),
}


class RefusalError(Exception):
    """What a service answers instead of doing it: HTTP status, error code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def wire(self, service: str, request_id: str) -> tuple[list[tuple[str, str]], bytes]:
        """Headers and body as `service` would send them."""
        protocol = _PROTOCOLS.get(service, "query")
        if protocol in ("s3", "query"):
            body = self._xml(protocol, request_id).encode()
            kind = "application/xml"
        else:
            body = json.dumps(
                {"__type": self.code, "Type": "User", "message": self.message, "Message": self.message}
            ).encode()
            kind = "application/json" if protocol == "rest-json" else "application/x-amz-json-1.1"
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("x-amzn-ErrorType", self.code),
            ("x-amzn-RequestId", request_id),
            ("x-amz-request-id", request_id),
        ]
        return headers, body

    def _xml(self, protocol: Protocol, request_id: str) -> str:
        error = f"<Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message>"
        if protocol == "s3":
            return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{error}<RequestId>{request_id}</RequestId></Error>'
        return f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
