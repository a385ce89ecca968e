"""The part of the model that describes other services: API Gateway, Batch, OSCAR, and storage outside of the function's own S3."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from scar.fdl.key import Key, OneOf, Pattern, Range
from scar.fdl.storage import Io
from scar.fdl.vocabulary import BATCH_GUIDE, ENVIRONMENT_DOC, JOB_NAMES, PROCESS_NAMES, PROFILE, REGION


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiGateway:
    """An HTTP front for the function."""

    name: Annotated[str | None, Key("The name of the API; giving one makes it.")] = None
    boto_profile: Annotated[
        str | None, Key("The AWS profile for API Gateway, when it is not the function's.", PROFILE)
    ] = None
    region: Annotated[str | None, Key("The AWS region for API Gateway, when it is not the function's.", REGION)] = None
    endpoint: Annotated[str | None, Key("The form of the URL.")] = None
    path_part: Annotated[str, Key("The path of the resource.")] = "{proxy+}"
    stage_name: Annotated[
        str, Key("The name of the stage.", Pattern(r"[a-zA-Z0-9_-]{1,128}", says="1 to 128 letters, digits, - or _"))
    ] = "scar"
    http_method: Annotated[
        str,
        Key("The HTTP method.", OneOf(("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"), upper=True)),
    ] = "ANY"
    method: Annotated[Mapping[str, object], Key("Arguments of API Gateway's `PutMethod`.")] = field(
        default_factory=dict
    )
    integration: Annotated[Mapping[str, object], Key("Arguments of API Gateway's `PutIntegration`.")] = field(
        default_factory=dict
    )
    request_parameters: Annotated[Mapping[str, object], Key("Parameters of the request.")] = field(default_factory=dict)
    service_id: Annotated[str | None, Key("The service that may call the function.")] = None
    source_arn_testing: Annotated[str | None, Key("What may call the function from the console.")] = None
    source_arn_invocation: Annotated[str | None, Key("What may call the function.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiNodeParallel:
    """One job on several machines."""

    enabled: Annotated[bool, Key("Whether a job takes several machines.", aliases=("enable",))] = False
    number_nodes: Annotated[
        int, Key("How many.", Range(1, 1000, owner="Batch's", source="AWS Batch user guide, mnp-node-groups"))
    ] = 10
    main_node_index: Annotated[
        int, Key("Which of them is the main one, counted from 0.", Range(0, 999, owner="Batch's"))
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """The machines that run jobs."""

    type: Annotated[
        str,
        Key(
            "What kind of machines.", OneOf(("EC2", "SPOT", "FARGATE", "FARGATE_SPOT"), upper=True, source=BATCH_GUIDE)
        ),
    ] = "EC2"
    desired_v_cpus: Annotated[int, Key("vCPUs to begin with.", Range(0, None))] = 0
    min_v_cpus: Annotated[int, Key("vCPUs that are always there, and paid for.", Range(0, None))] = 0
    max_v_cpus: Annotated[int, Key("vCPUs at most.", Range(1, None))] = 2
    instance_types: Annotated[tuple[str, ...], Key("EC2 instance types or families.")] = ()
    subnets: Annotated[tuple[str, ...], Key("Where the machines are.", most=16)] = ()
    security_group_ids: Annotated[tuple[str, ...], Key("Their security groups.", most=5)] = ()
    launch_template_name: Annotated[str | None, Key("The launch template that earlier versions made.")] = None
    instance_role: Annotated[str | None, Key("The ARN of the machines' instance profile.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How the function's jobs run in AWS Batch."""

    boto_profile: Annotated[str | None, Key("The AWS profile for Batch, when it is not the function's.", PROFILE)] = (
        None
    )
    region: Annotated[str | None, Key("The AWS region for Batch, when it is not the function's.", REGION)] = None
    vcpus: Annotated[int, Key("vCPUs of a job.", Range(1, None))] = 1
    memory: Annotated[int, Key("Memory of a job.", Range(4, None, owner="Batch's", source=BATCH_GUIDE), unit="MiB")] = (
        1024
    )
    enable_gpu: Annotated[bool, Key("Whether a job gets a GPU.")] = False
    state: Annotated[
        str, Key("Whether the queue takes jobs.", OneOf(("ENABLED", "DISABLED"), upper=True, source=BATCH_GUIDE))
    ] = "ENABLED"
    type: Annotated[
        str, Key("Who chooses the machines.", OneOf(("MANAGED", "UNMANAGED"), upper=True, source=BATCH_GUIDE))
    ] = "MANAGED"
    service_role: Annotated[
        str | None, Key("The ARN of the role that Batch takes on; its own service-linked one without it.")
    ] = None
    environment: Annotated[
        Mapping[str, str],
        Key(f"What a job finds in its environment. {ENVIRONMENT_DOC}", JOB_NAMES, wrapper="Variables", as_written=True),
    ] = field(default_factory=dict)
    multi_node_parallel: Annotated[MultiNodeParallel, Key("One job on several machines.")] = MultiNodeParallel()
    compute_resources: Annotated[ComputeResources, Key("The machines.")] = ComputeResources()


@dataclass(frozen=True, slots=True, kw_only=True)
class OscarService:
    """A service of an OSCAR cluster."""

    name: Annotated[str, Key("The service's name.")]
    endpoint: Annotated[str | None, Key("The cluster's URL.")] = None
    auth_user: Annotated[str | None, Key("The cluster's user.")] = None
    auth_password: Annotated[str | None, Key("The user's password.")] = None
    ssl_verify: Annotated[bool, Key("Whether the cluster's certificate is checked.")] = True
    memory: Annotated[str, Key("Memory, as Kubernetes writes it.")] = "256Mi"
    cpu: Annotated[str, Key("Processors, as Kubernetes writes them.", as_written=True)] = "0.2"
    log_level: Annotated[str, Key("How much is logged.")] = "INFO"
    image: Annotated[str | None, Key("The image.")] = None
    script: Annotated[Path | None, Key("The script.")] = None
    environment: Annotated[
        Mapping[str, str],
        Key("What the script finds in its environment.", PROCESS_NAMES, wrapper="Variables", as_written=True),
    ] = field(default_factory=dict)
    input: Annotated[tuple[Io, ...], Key("Where files come from.")] = ()
    output: Annotated[tuple[Io, ...], Key("Where files go.")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Provider:
    """S3 with credentials of its own."""

    access_key: Annotated[str, Key("The access key.")]
    secret_key: Annotated[str, Key("Its secret.")]
    region: Annotated[str | None, Key("The region.", REGION)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioProvider:
    """A MinIO server."""

    access_key: Annotated[str, Key("The access key.")]
    secret_key: Annotated[str, Key("Its secret.")]
    endpoint: Annotated[str | None, Key("The server's URL.")] = None
    verify: Annotated[bool, Key("Whether the server's certificate is checked.")] = True
    region: Annotated[str | None, Key("The region.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnedataProvider:
    """A Onedata space."""

    oneprovider_host: Annotated[str, Key("The provider's host.")]
    token: Annotated[str, Key("The access token.")]
    space: Annotated[str, Key("The space.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebdavProvider:
    """A WebDAV server."""

    hostname: Annotated[str, Key("The server.")]
    login: Annotated[str, Key("The user.")]
    password: Annotated[str, Key("The user's password.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RucioProvider:
    """A Rucio server."""

    host: Annotated[str, Key("The server.")]
    rse: Annotated[str, Key("The storage element.")]
    account: Annotated[str, Key("The account.")]
    auth_host: Annotated[str, Key("The authentication server.")]
    access_token: Annotated[str | None, Key("The access token.")] = None
    refresh_token: Annotated[str | None, Key("The refresh token.")] = None
    client_id: Annotated[str | None, Key("The client that renews the token.")] = None
    token_endpoint: Annotated[str | None, Key("The URL that renews the token.")] = None
    scopes: Annotated[str | None, Key("The token's scopes.")] = None
    oidc_audience: Annotated[str | None, Key("The token's audience.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageProviders:
    """Credentials of storage, by kind and name."""

    s3: Annotated[Mapping[str, S3Provider], Key("S3 with credentials of its own.")] = field(default_factory=dict)
    minio: Annotated[Mapping[str, MinioProvider], Key("MinIO servers.")] = field(default_factory=dict)
    onedata: Annotated[Mapping[str, OnedataProvider], Key("Onedata spaces.")] = field(default_factory=dict)
    webdav: Annotated[Mapping[str, WebdavProvider], Key("WebDAV servers.")] = field(default_factory=dict)
    rucio: Annotated[Mapping[str, RucioProvider], Key("Rucio servers.")] = field(default_factory=dict)
