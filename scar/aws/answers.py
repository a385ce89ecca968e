"""What a run by hand was answered. An event of a queue or of an HTTP endpoint gets its answer in words of its own, also by `scar run -e`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from faassupervisor.contract import Failure, Reply, Run


def read(body: bytes, request_id: str) -> Reply | Failure:
    """The answer of an invocation that did not fail, as the contract's. Raises ContractError for what no function of ours says."""
    document = json.loads(body)
    if isinstance(document, dict) and "schema" not in document:
        if document.keys() == {"batchItemFailures"}:
            return _of_queue(document["batchItemFailures"], request_id)
        if {"statusCode", "body", "isBase64Encoded"} <= document.keys():
            return _over_http(document, request_id)
    return Reply.from_json(body)


def _of_queue(failures: Sequence[Mapping[str, str]], request_id: str) -> Reply | Failure:
    names = [failure["itemIdentifier"] for failure in failures]
    if not names:
        return Reply(request_id, (), ("the queue was answered: no message comes back",))
    said = f"of this batch {len(names)} came back to the queue: {', '.join(names)}"
    return Failure("ScriptFailed", said, request_id=request_id)


def _over_http(document: Mapping[str, Any], request_id: str) -> Reply | Failure:
    status, body = document["statusCode"], document["body"]
    text = base64.b64decode(body).decode("utf-8", "replace") if document["isBase64Encoded"] else body
    if status == 202:
        told = json.loads(text)
        return Reply(request_id, (Run(None, 0, job_id=told.get("job_id")),), (f"answered with {status}: {text}",))
    if status >= 400:
        told = json.loads(text)
        return Failure(
            told["error"], f"answered with {status}: {told['message']}", told["exit_code"] or 1, request_id=request_id
        )
    return Reply(request_id, (Run(None, 0, output=text),))
