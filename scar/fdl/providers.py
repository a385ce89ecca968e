"""The part of the model that describes storage which the function's own role does not reach, and its credentials.

Every kind answers the same questions (`Provider`), so that nobody but this file knows which key means what for which kind.
"""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Protocol

from scar.fdl.key import Key, Pattern
from scar.fdl.vocabulary import REGION
from scar.secret import Secret

_URL: Final = Pattern(r"https?://[^\s/@]+(/[^\s]*)?", says="a URL without credentials: `https://minio.example:9000`")
_SECRET: Final = Key(
    "The name of an SSM parameter that holds the credentials, as a JSON object of the keys that stand here otherwise. It is only read.",
    Pattern(
        r"/?[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+){0,14}",
        says="the name of a parameter: `/team/minio`",
        source="AWS Systems Manager API reference, PutParameter",
    ),
    environ=True,
)
_PRIVATE: Final = Key("Whether the server may have an address of a private network, or of this machine.")
_VERIFY: Final = Key("Whether the server's certificate is checked.")


class Provider(Protocol):
    """What every kind of storage answers.

    1. `credentials` are those that the file holds, by key; empty when `secret` names where they are instead.
    2. `url` is where the server answers; '' for the kind's own (S3 itself).
    """

    KIND: ClassVar[str]
    WANTED: ClassVar[tuple[str, ...]]  # keys that hold the credentials; each must be given, or `secret`

    @property
    def secret(self) -> str | None: ...

    @property
    def credentials(self) -> Mapping[str, Secret]: ...

    @property
    def url(self) -> str: ...

    @property
    def region(self) -> str | None: ...

    @property
    def verify(self) -> bool: ...

    @property
    def private(self) -> bool: ...


def _held(section: object, names: tuple[str, ...]) -> Mapping[str, Secret]:
    return {name: value for name in names if (value := getattr(section, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Provider:
    """S3 with credentials of its own."""

    KIND: ClassVar[str] = "s3"
    WANTED: ClassVar[tuple[str, ...]] = ("access_key", "secret_key")

    access_key: Annotated[Secret | None, Key("The access key.", environ=True)] = None
    secret_key: Annotated[Secret | None, Key("Its secret.", environ=True)] = None
    secret: Annotated[str | None, _SECRET] = None
    region: Annotated[str | None, Key("The region.", REGION, environ=True)] = None
    endpoint: Annotated[str | None, Key("The URL, where it is not AWS's S3.", _URL, environ=True)] = None
    verify: Annotated[bool, _VERIFY] = True
    private: Annotated[bool, _PRIVATE] = False

    @property
    def credentials(self) -> Mapping[str, Secret]:
        return _held(self, self.WANTED)

    @property
    def url(self) -> str:
        return self.endpoint or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioProvider:
    """A MinIO server, or another that speaks S3."""

    KIND: ClassVar[str] = "minio"
    WANTED: ClassVar[tuple[str, ...]] = ("access_key", "secret_key")

    access_key: Annotated[Secret | None, Key("The access key.", environ=True)] = None
    secret_key: Annotated[Secret | None, Key("Its secret.", environ=True)] = None
    secret: Annotated[str | None, _SECRET] = None
    endpoint: Annotated[
        str | None,
        Key("The server's URL. A function in AWS needs it; OSCAR knows its own cluster's.", _URL, environ=True),
    ] = None
    verify: Annotated[bool, _VERIFY] = True
    region: Annotated[
        str | None,
        Key(
            "The region that requests are signed for.",
            Pattern(r"[a-z0-9-]{1,64}", says="a region, such as `us-east-1`"),
            environ=True,
        ),
    ] = None
    private: Annotated[bool, _PRIVATE] = False

    @property
    def credentials(self) -> Mapping[str, Secret]:
        return _held(self, self.WANTED)

    @property
    def url(self) -> str:
        return self.endpoint or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebdavProvider:
    """A WebDAV server, such as dCache."""

    KIND: ClassVar[str] = "webdav"
    WANTED: ClassVar[tuple[str, ...]] = ("login", "password")

    hostname: Annotated[
        str,
        Key(
            "The server: a host name, which is spoken to with TLS, or a URL.",
            Pattern(
                r"(https?://)?[^\s/@]+(/[^\s]*)?", says="a host name or a URL: `https://dav.example/remote.php/dav`"
            ),
            environ=True,
        ),
    ]
    login: Annotated[Secret | None, Key("The user.", environ=True)] = None
    password: Annotated[Secret | None, Key("The user's password.", environ=True)] = None
    secret: Annotated[str | None, _SECRET] = None
    verify: Annotated[bool, _VERIFY] = True
    private: Annotated[bool, _PRIVATE] = False

    @property
    def credentials(self) -> Mapping[str, Secret]:
        return _held(self, self.WANTED)

    @property
    def url(self) -> str:
        return self.hostname if "://" in self.hostname else f"https://{self.hostname}"

    @property
    def region(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnedataProvider:
    """A Onedata space."""

    KIND: ClassVar[str] = "onedata"
    WANTED: ClassVar[tuple[str, ...]] = ("token",)

    oneprovider_host: Annotated[str, Key("The provider's host.", environ=True)]
    token: Annotated[Secret | None, Key("The access token.", environ=True)] = None
    space: Annotated[str, Key("The space.", environ=True)]
    secret: Annotated[str | None, _SECRET] = None

    @property
    def credentials(self) -> Mapping[str, Secret]:
        return _held(self, self.WANTED)

    @property
    def url(self) -> str:
        return f"https://{self.oneprovider_host}"

    @property
    def region(self) -> str | None:
        return None

    @property
    def verify(self) -> bool:
        return True

    @property
    def private(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RucioProvider:
    """A Rucio server."""

    KIND: ClassVar[str] = "rucio"
    WANTED: ClassVar[tuple[str, ...]] = ()  # one of two tokens: a rule of its own

    host: Annotated[str, Key("The server.", environ=True)]
    rse: Annotated[str, Key("The storage element.", environ=True)]
    account: Annotated[str, Key("The account.", environ=True)]
    auth_host: Annotated[str, Key("The authentication server.", environ=True)]
    access_token: Annotated[Secret | None, Key("The access token.", environ=True)] = None
    refresh_token: Annotated[Secret | None, Key("The refresh token.", environ=True)] = None
    client_id: Annotated[str | None, Key("The client that renews the token.", environ=True)] = None
    token_endpoint: Annotated[str | None, Key("The URL that renews the token.", environ=True)] = None
    scopes: Annotated[str | None, Key("The token's scopes.", environ=True)] = None
    oidc_audience: Annotated[str | None, Key("The token's audience.", environ=True)] = None
    secret: Annotated[str | None, _SECRET] = None

    @property
    def credentials(self) -> Mapping[str, Secret]:
        return _held(self, ("access_token", "refresh_token"))

    @property
    def url(self) -> str:
        return self.host

    @property
    def region(self) -> str | None:
        return None

    @property
    def verify(self) -> bool:
        return True

    @property
    def private(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageProviders:
    """Storage by kind and name: what is called `lab` below `minio` is the storage provider `minio.lab`."""

    s3: Annotated[Mapping[str, S3Provider], Key("S3 with credentials of its own.")] = field(default_factory=dict)
    minio: Annotated[Mapping[str, MinioProvider], Key("MinIO servers.")] = field(default_factory=dict)
    onedata: Annotated[
        Mapping[str, OnedataProvider], Key("Onedata spaces, for services of OSCAR: functions in AWS cannot reach them.")
    ] = field(default_factory=dict)
    webdav: Annotated[Mapping[str, WebdavProvider], Key("WebDAV servers.")] = field(default_factory=dict)
    rucio: Annotated[
        Mapping[str, RucioProvider], Key("Rucio servers, for services of OSCAR: functions in AWS cannot reach them.")
    ] = field(default_factory=dict)

    def named(self) -> Iterator[tuple[str, Provider]]:
        """Every provider with its whole name (`minio.lab`), in the order of the kinds and of the file."""
        kinds: tuple[Mapping[str, Provider], ...] = (self.s3, self.minio, self.onedata, self.webdav, self.rucio)
        for kind in kinds:
            for name, provider in kind.items():
                yield f"{provider.KIND}.{name}", provider


NONE: Final = StorageProviders()
