"""Storage that speaks S3's protocol and is not reached by the function's role: S3 with other credentials, MinIO, and their like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from faassupervisor.aws import Aws, Keys
from faassupervisor.contract import Provider
from faassupervisor.deadline import Deadline
from faassupervisor.storage import kind_of
from faassupervisor.storage.credentials import Credentials
from faassupervisor.storage.guard import Session
from faassupervisor.storage.s3 import CONNECTIONS, S3, Account

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_NEEDED: Final = ("access_key", "secret_key")


def s3(aws: Aws, provider: Provider) -> S3:
    """The backend of `s3.ID` and `minio.ID`. Nothing is asked of anybody until it is used."""
    credentials = Credentials(aws, provider, _NEEDED)
    # Checksums in trailers are S3's own; of the others, few know them all. The signature covers the content there.
    account = Account(provider.name, provider.name, checksums=not provider.endpoint, hide=credentials.hide)
    return S3(_Connected(aws, provider, credentials), account)


class _Connected:
    """The provider's client, made anew when its credentials have changed."""

    def __init__(self, aws: Aws, provider: Provider, credentials: Credentials) -> None:
        self._aws, self._provider, self._credentials = aws, provider, credentials
        self._made: tuple[Mapping[str, str], S3Client] | None = None

    def __call__(self, deadline: Deadline) -> S3Client:
        values = self._credentials.read(deadline)
        if self._made is None or self._made[0] is not values:
            self._made = (values, self._make(values))
        return self._made[1]

    def _make(self, values: Mapping[str, str]) -> S3Client:
        provider = self._provider
        client = self._aws.s3_elsewhere(
            Keys(values["access_key"], values["secret_key"], values.get("session_token") or None),
            endpoint=provider.endpoint or None,
            region=provider.region or ("us-east-1" if kind_of(provider.name) == "minio" else self._aws.region),
            connections=CONNECTIONS,
        )
        if provider.endpoint:
            session = Session(self._aws, provider, provider.endpoint, connections=CONNECTIONS)

            # Whoever answers this event has sent the request, in place of botocore's own session.
            send: Any = lambda request, **_: session.send(request)  # noqa: E731 (its stubs know no answer)
            client.meta.events.register("before-send.s3", send)
        return client
