"""The one place of `scar` that creates AWS clients.

botocore is used without boto3's resource layer: the same clients, a fifth less start-up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ConnectionClosedError, DataNotFoundError, NoCredentialsError
from botocore.loaders import Loader

from scar.aws.wait import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from mypy_boto3_batch.client import BatchClient
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ecr.client import ECRClient
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_lambda.client import LambdaClient
    from mypy_boto3_logs.client import CloudWatchLogsClient
    from mypy_boto3_resourcegroupstaggingapi.client import ResourceGroupsTaggingAPIClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sts.client import STSClient

    from scar.aws.direct import Way

# A synchronous Lambda run may take 900 s; botocore's 60 s read timeout would make it retry, that is: run twice.
# Three attempts to connect and two pauses of 1 and 2 s at most: where there is no network, that is said within 15 s and not after three minutes.
_CONNECT_S: Final = 3.5
_LAMBDA = Config(
    connect_timeout=_CONNECT_S,
    read_timeout=920,
    retries={"mode": "standard", "total_max_attempts": 1},
    tcp_keepalive=True,
    max_pool_connections=64,
)
_STANDARD = Config(connect_timeout=_CONNECT_S, retries={"mode": "standard"}, max_pool_connections=32)
PATIENCE_S: Final = (
    600.0  # a compute environment is there within a minute, and gone within some; roles may need a minute to be seen
)


@dataclass(frozen=True)
class Access:
    """How to reach AWS: where, and as whom. Keys are None for boto's own credential chain."""

    region: str
    profile: str | None = None
    endpoint_url: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


class _Models(Loader):
    """botocore's loader, which asks for one service's folder where the other looks into all 400: a quarter of a client's start."""

    def list_available_services(self, type_name: str) -> list[str]:
        return _Services(self, type_name)


class _Services(list[str]):
    """The services that botocore knows, found out when one is asked for by name."""

    def __init__(self, models: _Models, type_name: str) -> None:
        super().__init__()
        self._models, self._type_name = models, type_name

    def __contains__(self, name: object) -> bool:
        try:
            return bool(self._models.list_api_versions(str(name), self._type_name))
        except DataNotFoundError:
            return False


class Aws:
    """Clients of one account and region, each made when first used.

    `clock` is what every wait goes by; `patience_s` is how long one may take that AWS itself sets no limit to.
    """

    def __init__(self, access: Access, clock: Clock = SYSTEM_CLOCK, *, patience_s: float = PATIENCE_S) -> None:
        self.access = access
        self.clock = clock
        self.patience_s = patience_s
        self.overheard = False
        self.ways: dict[str, Way] = {}  # how buckets are reached, once a call has told
        self._lock = threading.Lock()  # botocore sessions, unlike clients, are not safe to share between threads
        self._session = botocore.session.Session(profile=access.profile)
        folders = (self._session.get_config_variable("data_path") or "").split(os.pathsep)
        models = _Models([str(Path(folder).expanduser()) for folder in folders if folder])
        self._session.register_component("data_loader", models)

    def hook(self, event: str, handler: Callable[..., None]) -> None:
        """Have botocore call `handler` at an event of clients that are made from now on. From then on no call goes past the clients."""
        self.overheard = True
        self._session.register(event, handler)

    @property
    def region(self) -> str:
        return self.access.region

    @cached_property
    def account(self) -> str:
        """The caller's account id (12 digits), asked once: sts:GetCallerIdentity."""
        return self.sts.get_caller_identity()["Account"]

    @property
    def partition(self) -> str:
        return self._session.get_partition_for_region(self.region)

    def credentials(self) -> Any:
        """The caller's keys as they are now, for a request that no client makes. Raises NoCredentialsError (botocore)."""
        access = self.access
        if access.access_key is not None:
            return Credentials(access.access_key, access.secret_key or "")
        with self._lock:
            found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    @property
    def ca_bundle(self) -> str | None:
        """The file of certificates that AWS_CA_BUNDLE or the profile names."""
        named: str | None = self._session.get_config_variable("ca_bundle")
        return named

    @cached_property
    def s3(self) -> S3Client:
        client: S3Client = self._client("s3")
        return client

    @cached_property
    def lambda_(self) -> LambdaClient:
        """Control plane: quick calls, retried."""
        client: LambdaClient = self._client("lambda")
        return client

    @cached_property
    def invoker(self) -> LambdaClient:
        """Data plane: waits as long as a function may run and never repeats a run by itself."""
        client: LambdaClient = self._client("lambda", _LAMBDA)
        return client

    @cached_property
    def iam(self) -> IAMClient:
        client: IAMClient = self._client("iam")
        return client

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        client: CloudWatchLogsClient = self._client("logs")
        return client

    @cached_property
    def ecr(self) -> ECRClient:
        client: ECRClient = self._client("ecr")
        return client

    @cached_property
    def batch(self) -> BatchClient:
        client: BatchClient = self._client("batch")
        return client

    @cached_property
    def ec2(self) -> EC2Client:
        client: EC2Client = self._client("ec2")
        return client

    @cached_property
    def events(self) -> Any:
        """EventBridge. Nothing here needs its types but a handful of calls."""
        return self._client("events")

    @cached_property
    def apigateway(self) -> Any:
        """REST APIs (API Gateway's first version)."""
        return self._client("apigateway")

    @cached_property
    def ssm(self) -> Any:
        """Systems Manager, of which only the store of parameters is used."""
        return self._client("ssm")

    @cached_property
    def sts(self) -> STSClient:
        client: STSClient = self._client("sts")
        return client

    @cached_property
    def tagging(self) -> ResourceGroupsTaggingAPIClient:
        client: ResourceGroupsTaggingAPIClient = self._client("resourcegroupstaggingapi")
        return client

    def _client(self, service: str, config: Config = _STANDARD) -> Any:
        access = self.access
        with self._lock:
            client: Any = self._session.create_client(
                service,
                region_name=access.region,
                endpoint_url=access.endpoint_url,
                aws_access_key_id=access.access_key,
                aws_secret_access_key=access.secret_key,
                config=config,
            )
        client._endpoint.http_session = _Whole(client._endpoint.http_session)
        return client


class _Whole:
    """botocore's way to send, less one thing: it takes an answer that was cut on its way for a whole one, and a list that is not there for an empty one.

    Here that is a connection that ended too early, which botocore's retries know. What is streamed is measured by who reads it.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def send(self, request: Any) -> Any:
        answer = self._inner.send(request)
        told = answer.headers.get("Content-Length")
        if told is None or request.stream_output or request.method == "HEAD" or len(answer.content) == int(told):
            return answer
        raise ConnectionClosedError(endpoint_url=request.url)

    def close(self) -> None:
        self._inner.close()
