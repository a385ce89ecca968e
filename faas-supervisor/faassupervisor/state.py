"""The function's part of the state bucket: where it is, and the ledger's entries as its objects.

An entry is written by conditional requests only, so that of two writers one learns that it came second.
Source: AmazonS3/latest/userguide/conditional-writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from faassupervisor import contract, ledger
from faassupervisor.aws import Aws
from faassupervisor.errors import AgentError, HandOverError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_LOST: Final = frozenset({409, 412})
_MISSING: Final = frozenset({"NoSuchKey", "404"})
# S3 says so too of what is not there, to whoever may not list the bucket; and the role of a function may not (AmazonS3/latest/API/API_GetObject).
_NOT_TOLD: Final = frozenset({"AccessDenied", "403"})
_FIX: Final = {
    403: "access denied; the role needs s3:GetObject and s3:PutObject on it (S3 says the same of what is gone to who may not list the bucket)",
    404: "the bucket does not exist; `scar init` makes it",
}


class State:
    """`uri` is SCAR_STATE: `s3://bucket/prefix/`. Raises AgentError for anything else."""

    def __init__(self, client: S3Client, uri: str) -> None:
        scheme, _, rest = uri.partition("://")
        self.client, self.uri = client, uri
        self.bucket, _, self.prefix = rest.partition("/")
        if scheme != "s3" or not self.bucket or not self.prefix.endswith("/"):
            raise AgentError(f"{contract.STATE}={uri!a}: s3://bucket/folder/ was expected")

    def where(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def of(aws: Aws) -> State:
    """Raises AgentError when the function was deployed without it."""
    uri = aws.variables.get(contract.STATE)
    if not uri:
        raise AgentError(f"this function was deployed without {contract.STATE}: run `scar init` again")
    return State(aws.s3_for_state(), uri)


class Entries:
    """The ledger's entries below `State`; see `ledger.Store` for what it promises."""

    def __init__(self, state: State) -> None:
        self._state = state

    def read(self, run: str) -> tuple[bytes, str] | None:
        key = self._key(run)
        try:
            answer = self._state.client.get_object(Bucket=self._state.bucket, Key=key)
            with answer["Body"] as body:
                return body.read(), answer["ETag"]
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING | _NOT_TOLD:
                return None
            self._refused("read", key, error)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise ledger.Ambiguous(f"{self._state.where(key)} could not be read: {error}") from error

    def create(self, run: str, body: bytes) -> str:
        return self._write(run, body, IfNoneMatch="*")

    def replace(self, run: str, body: bytes, etag: str) -> str:
        return self._write(run, body, IfMatch=etag)

    def _write(self, run: str, body: bytes, **condition: Any) -> str:
        key = self._key(run)
        try:
            answer = self._state.client.put_object(
                Bucket=self._state.bucket, Key=key, Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            gone = status == 404 and error.response["Error"].get("Code") in _MISSING
            if status in _LOST or gone:
                raise ledger.Taken(run) from error
            self._refused("written", key, error)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise ledger.Ambiguous(f"{self._state.where(key)} could not be written: {error}") from error
        return answer["ETag"]

    def _refused(self, what: str, key: str, error: ClientError) -> NoReturn:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        told = error.response["Error"]
        reason = _FIX.get(status) or f"{told.get('Code', '')}: {told.get('Message', '')}"
        message = f"the ledger's entry {self._state.where(key)} cannot be {what}: {reason}"
        if status >= 500 or status == 429:
            raise ledger.Ambiguous(message) from error
        raise HandOverError(message) from error

    def _key(self, run: str) -> str:
        return f"{self._state.prefix}{contract.LEDGER_FOLDER}{run}"
