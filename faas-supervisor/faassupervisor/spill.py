"""What was too large to be sent along: bytes under the function's part of the state bucket, named by their SHA-256.

A reference comes from outside, so it is believed only where it leads to our own state, and only when size and digest are as it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from faassupervisor.contract import SPILL_FOLDER, ContractError, Reference
from faassupervisor.errors import AgentError, BadEventError, HandOverError, StageInError

if TYPE_CHECKING:
    from faassupervisor.state import State

_CHUNK_BYTES: Final = 1024 * 1024
_ATTEMPTS: Final = 3


def resolved(payload: bytes, state: Callable[[], State]) -> bytes:
    """What a payload refers to, or the payload itself. Raises BadEventError for a malformed reference, and what `fetch` raises."""
    try:
        reference = Reference.of_payload(json.loads(payload))
    except ContractError as error:
        raise BadEventError(f"event: {error}") from error
    except (ValueError, RecursionError):  # no JSON: the event's parsers say so
        return payload
    return payload if reference is None else fetch(state(), reference)


def put(state: State, body: bytes) -> Reference:
    """Written under a name that its content gives it: writing it twice changes nothing."""
    digest = hashlib.sha256(body).hexdigest()
    key = f"{state.prefix}{SPILL_FOLDER}{digest}"
    try:
        state.client.put_object(Bucket=state.bucket, Key=key, Body=body)
    except (ClientError, BotoCoreError, HTTPError) as error:
        raise HandOverError(
            f"the event has {len(body)} bytes and cannot be put to {state.where(key)}: {error}"
        ) from error
    return Reference(state.where(key), len(body), digest)


def fetch(state: State, reference: Reference) -> bytes:
    """The bytes that the reference names. Raises StageInError for what is elsewhere, gone or falsified; AgentError when S3 cannot be asked."""
    own = state.where(f"{state.prefix}{SPILL_FOLDER}")
    key = reference.uri.removeprefix(f"s3://{state.bucket}/")
    if not reference.uri.startswith(own) or "/../" in f"/{key}/":
        raise StageInError(f"reference {reference.uri!a}: it leads outside of the function's own state, {own}")
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            return _verified(state.client.get_object(Bucket=state.bucket, Key=key)["Body"], reference)
        except ClientError as error:
            told = error.response["Error"]
            raise StageInError(
                f"reference {reference.uri}: it cannot be read: {told.get('Code', '')}: {told.get('Message', '')}"
            ) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            reason = str(error)
    raise AgentError(f"reference {reference.uri}: it could not be read in {_ATTEMPTS} attempts: {reason}")


def _verified(body: Any, reference: Reference) -> bytes:
    digest, kept, size = hashlib.sha256(), bytearray(), 0
    with body:
        while size <= reference.size and (chunk := body.read(_CHUNK_BYTES)):
            digest.update(chunk)
            kept += chunk
            size += len(chunk)
    if size != reference.size:
        raise StageInError(
            f"reference {reference.uri}: checksum mismatch: it has not the {reference.size} bytes it had"
        )
    if digest.hexdigest() != reference.sha256:
        raise StageInError(f"reference {reference.uri}: checksum mismatch: its SHA-256 is {digest.hexdigest()}")
    return bytes(kept)
