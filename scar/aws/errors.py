"""botocore's errors as ours: the only place that knows AWS's error codes by meaning.

A resource that expects a code ("absent", "exists already") asks `code_of`; everything else leaves through `told`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from scar.errors import ConflictError, DeniedError, NotFoundError, ScarError, ServiceError

_DENIED: Final = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AuthFailure", "AuthorizationError",
        "Forbidden", "403", "UnauthorizedOperation", "NotAuthorized", "KMSAccessDeniedException",
    }
)  # fmt: skip
_CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken",
        "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationToken",
    }
)  # fmt: skip
_CLOCK: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_ABSENT: Final = frozenset(
    {
        "404", "ImageNotFoundException", "NoSuchBucket", "NoSuchEntity", "NoSuchKey", "NotFound", "NotFoundException", "RepositoryNotFoundException",
        "ResourceNotFoundException", "LifecyclePolicyNotFoundException", "RepositoryPolicyNotFoundException", "NoSuchUpload",
    }
)  # fmt: skip
_TAKEN: Final = frozenset(
    {
        "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "BucketNotEmpty", "CodeStorageExceededException", "DeleteConflict",
        "EntityAlreadyExists", "LimitExceeded", "LimitExceededException", "OperationAborted", "PreconditionFailed",
        "RepositoryAlreadyExistsException", "RepositoryNotEmptyException", "ResourceAlreadyExistsException",
        "ResourceConflictException", "ResourceInUseException", "ServiceQuotaExceededException", "TooManyBuckets",
        "PolicyLengthExceededException", "ConcurrentModification", "ConflictException",
    }
)  # fmt: skip
_BUSY: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "SlowDown",
        "RequestLimitExceeded",
        "ServiceUnavailable",
    }
)


_BATCH: Final = "ClientException"
# "Object already exists"; "Cannot update, resource is being modified"; "Cannot delete, found existing JobQueue relationship"
# (the last in hashicorp/terraform-provider-aws#2044 and #46925)
_BATCH_TAKEN: Final = re.compile(r"already exists", re.IGNORECASE)
_BATCH_BUSY: Final = re.compile(r"being (modified|updated|created|deleted)|in transition", re.IGNORECASE)
_BATCH_RELATED: Final = re.compile(r"relationship", re.IGNORECASE)
_BATCH_ABSENT: Final = re.compile(r"(does not|doesn't) exist|not found", re.IGNORECASE)


def code_of(error: ClientError) -> str:
    """AWS's error code; a HEAD request, which has no body, gives the HTTP status instead (`404`)."""
    return error.response["Error"].get("Code", "")


def is_absent(error: ClientError) -> bool:
    """Whether AWS said that the thing asked for does not exist."""
    return code_of(error) in _ABSENT or _batch_says(error, _BATCH_ABSENT)


def is_taken(error: ClientError) -> bool:
    """Whether Batch said that there is one of that name already."""
    return _batch_says(error, _BATCH_TAKEN)


def is_busy(error: ClientError) -> bool:
    """Whether Batch said that it has not finished with an earlier change of the same thing."""
    return _batch_says(error, _BATCH_BUSY)


def is_related(error: ClientError) -> bool:
    """Whether Batch said that a queue still holds a compute environment."""
    return _batch_says(error, _BATCH_RELATED)


def _batch_says(error: ClientError, what: re.Pattern[str]) -> bool:
    """Batch has one code, ClientException, for all that a caller can do wrong; the text tells which."""
    return code_of(error) == _BATCH and what.search(error.response["Error"].get("Message", "")) is not None


def is_passing(error: ClientError | BotoCoreError) -> bool:
    """Whether the same question may well be answered in a moment: AWS is busy or broken, or cannot be reached."""
    if isinstance(error, ClientError):
        told_of = error.response.get("ResponseMetadata")  # an error that stands inside an answer has none
        return code_of(error) in _BUSY or (told_of is not None and told_of["HTTPStatusCode"] >= 500)
    return isinstance(error, boto.HTTPClientError)


def whole(answer: Mapping[str, Any], member: str) -> Any:
    """What the answer says under `member`, which every answer of this operation has. One that was cut on its way has not, and botocore sees no error
    in that. Raises ConnectionClosedError (botocore)."""
    if member not in answer:
        raise boto.ConnectionClosedError(endpoint_url="AWS")
    return answer[member]


@contextmanager
def mapped(doing: str) -> Iterator[None]:
    """Turn what botocore raises inside the block into a ScarError that says what was being done: `create role x`."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise told(error, doing) from error


def told(error: ClientError | BotoCoreError, doing: str) -> ScarError:
    """The error of our tree that says the same; pure."""
    return _told_client(error, doing) if isinstance(error, ClientError) else _told_local(error, doing)


def _told_client(error: ClientError, doing: str) -> ScarError:
    code, message = code_of(error), error.response["Error"].get("Message", "")
    operation = error.operation_name
    if code in _CREDENTIALS:
        return DeniedError(f"AWS does not accept these credentials ({code}): {message}", where=doing, fix=_SIGN_IN)
    if code in _CLOCK:
        return DeniedError(
            f"AWS refused the request's time stamp ({code}): {message}", where=doing, fix="Set this computer's clock."
        )
    if code in _DENIED:
        return DeniedError(
            f"not allowed: {operation} ({code}) {message}".rstrip(),
            where=doing,
            fix=_leave(operation, message),
        )
    if is_absent(error):
        return NotFoundError(f"{operation}: {message or code}", where=doing)
    if code == "InvalidObjectState":
        return ServiceError(
            f"{operation}: the object is archived ({message})",
            where=doing,
            fix="Restore it first (`aws s3api restore-object`), and wait until it is there.",
        )
    if code == "InvalidArgument" and "overlap" in message.lower():
        return ConflictError(
            f"another notification of this bucket covers the same objects: {message}",
            where=doing,
            fix="S3 sends one event to one place: use another folder, or remove the other notification.",
        )
    if code in _TAKEN or "LimitExceeded" in code or is_taken(error) or is_busy(error) or is_related(error):
        return ConflictError(f"{operation}: {code}: {message}", where=doing)
    if code in _BUSY:
        return ServiceError(
            f"AWS is busy: {operation}: {code}: {message}", where=doing, fix="Wait a minute and try again."
        )
    fix = "It is a failure of AWS's own: try again." if is_passing(error) else None
    return ServiceError(f"{operation}: {code}: {message}", where=doing, fix=fix)


# IAM/latest/UserGuide/troubleshoot_access-denied: "… is not authorized to perform: s3:GetObject on resource: arn:… because …"
_LACKS: Final = re.compile(r"not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?")


def _leave(operation: str, message: str) -> str:
    """What is missing, where AWS tells, and where the whole of it is to be had."""
    found = _LACKS.search(message)
    if found is None:
        what = f"the permission that {operation} needs"
    else:
        what = found["action"] + (f" on {found['resource']}" if found["resource"] else "")
    return f"Ask for {what}, or use another profile. `scar iam --operator` prints all that SCAR needs."


_SIGN_IN: Final = "Check the profile or the AWS_* variables, or sign in again (`aws sso login`)."


def _told_local(error: BotoCoreError, doing: str) -> ScarError:
    match error:
        case (
            boto.NoCredentialsError()
            | boto.PartialCredentialsError()
            | boto.CredentialRetrievalError()
            | boto.TokenRetrievalError()
            | boto.SSOError()
            | boto.ProfileNotFound()
            | boto.NoAuthTokenError()
        ):
            return DeniedError(str(error), where=doing, fix=_SIGN_IN)
        case boto.NoRegionError():
            return DeniedError("no AWS region is set", where=doing, fix="Set `region` in the definition or AWS_REGION.")
        case boto.HTTPClientError() | boto.ConnectionError():
            return ServiceError(
                str(error), where=doing, fix="Check the network, the proxy and the endpoint, then try again."
            )
        case _:
            return ServiceError(f"{type(error).__name__}: {error}", where=doing)
