"""The agent's clients of AWS: whose credentials they use, where they ask, how patient they are. The only place that makes one.

In Lambda the function's role comes in the environment. In a Batch job the role comes from the container's credentials endpoint, and from
nowhere else: keys that a job definition or the image's files hold are the user's, for the user's own process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.model import OperationModel
    from botocore.session import Session
    from mypy_boto3_batch.client import BatchClient
    from mypy_boto3_s3.client import S3Client

# What may speak for a job when its container has no endpoint: the token of its pod, the role of its machine.
_OF_THE_MACHINE: Final = frozenset({"assume-role-with-web-identity", "container-role", "iam-role"})
# How often a request is sent and how long it waits. Files are worth patience; the ledger is asked while Lambda's clock runs out.
_FILES: Final = {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "total_max_attempts": 6}}
_STATE: Final = {"connect_timeout": 2, "read_timeout": 5, "retries": {"mode": "standard", "total_max_attempts": 3}}
# SubmitJob has no idempotency token: a request whose answer is lost must not be sent again by a library.
_BATCH: Final = {"connect_timeout": 3, "read_timeout": 10, "retries": {"mode": "standard", "total_max_attempts": 1}}
# Up to here an object is sent at once. botocore asks S3 first whether it may send, and waits for the answer: twice the time for little content.
SMALL_BYTES: Final = 256 * 1024
# What requests call us. botocore's own name for itself is built anew for each, a tenth of what a small one costs.
_WHO: Final = "scar"
# Where the partitions' services answer, by how their regions begin; anything else is amazonaws.com. Source: botocore/data/partitions.json
_DOMAINS: Final = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials that are not the role's."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Aws:
    """Clients for one sandbox. The library is imported with the first, which costs more than all others together."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self._in_job = "AWS_BATCH_JOB_ID" in variables and "AWS_LAMBDA_RUNTIME_API" not in variables
        self._made: Session | None = None

    def s3_for_files(self, connections: int) -> S3Client:
        return cast("S3Client", self._client("s3", _FILES, max_pool_connections=connections))

    def s3_for_state(self) -> S3Client:
        return cast("S3Client", self._client("s3", _STATE))

    def s3_elsewhere(self, keys: Keys, *, endpoint: str | None, region: str, connections: int) -> S3Client:
        """S3 as somebody else, or what speaks its protocol at `endpoint`: there the content is signed, and named by paths."""
        from botocore.config import Config

        address = endpoint or self._given_endpoint("s3")
        settings: dict[str, Any] = dict(_FILES)
        if endpoint is not None:
            settings |= dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
        made = self._session().create_client(
            "s3",
            region_name=region,
            endpoint_url=address,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            aws_session_token=keys.token,
            config=Config(
                user_agent=_WHO,
                tcp_keepalive=True,
                s3={"addressing_style": "path" if address else "auto", "payload_signing_enabled": endpoint is not None},
                max_pool_connections=connections,
                **settings,
            ),
        )
        _send_little_at_once(made)
        return cast("S3Client", made)

    def batch(self) -> BatchClient:
        return cast("BatchClient", self._client("batch", _BATCH))

    @property
    def region(self) -> str:
        return self.variables.get("AWS_REGION") or self.variables.get("AWS_DEFAULT_REGION") or "us-east-1"

    @property
    def certificates(self) -> str | None:
        """A file of the certificates that are trusted in place of botocore's own, as botocore reads it."""
        return self.variables.get("AWS_CA_BUNDLE") or self.variables.get("REQUESTS_CA_BUNDLE") or None

    def endpoint(self, service: str) -> str:
        """Where a service answers, without a slash at the end."""
        domain = next((name for start, name in _DOMAINS.items() if self.region.startswith(start)), "amazonaws.com")
        return (self._given_endpoint(service) or f"https://{service}.{self.region}.{domain}").rstrip("/")

    def credentials(self) -> ReadOnlyCredentials:
        """What signs a request now. Raises one of botocore's errors when there is nothing to sign with."""
        from botocore.credentials import ReadOnlyCredentials
        from botocore.exceptions import NoCredentialsError

        keys = self._keys()
        if keys.get("aws_access_key_id") and keys.get("aws_secret_access_key"):
            return ReadOnlyCredentials(
                keys["aws_access_key_id"], keys["aws_secret_access_key"], keys["aws_session_token"]
            )
        found = self._session().get_credentials()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    def _given_endpoint(self, service: str) -> str | None:
        variables = self.variables
        return variables.get(f"AWS_ENDPOINT_URL_{service.upper()}") or variables.get("AWS_ENDPOINT_URL") or None

    def _keys(self) -> dict[str, Any]:
        if self._in_job:
            return {}
        return {
            "aws_access_key_id": self.variables.get("AWS_ACCESS_KEY_ID"),
            "aws_secret_access_key": self.variables.get("AWS_SECRET_ACCESS_KEY"),
            "aws_session_token": self.variables.get("AWS_SESSION_TOKEN"),
        }

    def _client(self, service: str, patience: Mapping[str, Any], **more: Any) -> object:
        from botocore.config import Config

        endpoint = self._given_endpoint(service)
        made = self._session().create_client(
            service,
            region_name=self.region,
            endpoint_url=endpoint,
            config=Config(
                user_agent=_WHO,
                tcp_keepalive=True,
                s3={"addressing_style": "path" if endpoint else "auto"},
                **patience,
                **more,
            ),
            **self._keys(),
        )
        if service == "s3":
            _send_little_at_once(made)
        return made

    def _session(self) -> Session:
        """One for all clients: it keeps the models that it has read."""
        if self._made is None:
            import botocore.session

            self._made = botocore.session.Session()
            if self._in_job:
                self._take_roles_only(self._made)
        return self._made

    def _take_roles_only(self, session: Session) -> None:
        from botocore import credentials

        from faassupervisor.renewing import Renewing

        settings = session.get_component("config_store")
        settings.set_config_variable("config_file", os.devnull)  # the image's own
        settings.set_config_variable("profile", None)  # of a definition's environment
        if {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} & self.variables.keys():
            found = credentials.CredentialResolver([credentials.ContainerProvider(environ=dict(self.variables))])
        else:
            found = credentials.create_credential_resolver(session)
            found.providers = [provider for provider in found.providers if provider.METHOD in _OF_THE_MACHINE]
        session.register_component("credential_provider", Renewing(session, found))


def _send_little_at_once(client: Any) -> None:
    from botocore.utils import determine_content_length

    def ask_nothing(model: OperationModel, params: dict[str, Any], **_: object) -> None:
        if model.name == "PutObject":
            size = determine_content_length(params["body"])
            if size is not None and size <= SMALL_BYTES:
                params["headers"].pop("Expect", None)

    client.meta.events.register_last("before-call.s3", ask_nothing)
