"""The part of the model that describes other services: API Gateway, OSCAR, and storage outside of the function's own S3."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from scar.fdl.key import Key, OneOf, Pattern
from scar.fdl.storage import Io
from scar.fdl.vocabulary import PROCESS_NAMES, PROFILE, REGION


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
