"""The part of the model that describes other services: HTTP endpoints of a function, and OSCAR."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from scar.fdl.key import Key, OneOf, Pattern
from scar.fdl.places import NOWHERE, Place
from scar.fdl.providers import NONE as NO_PROVIDERS
from scar.fdl.providers import StorageProviders
from scar.fdl.storage import Io
from scar.fdl.vocabulary import PROCESS_NAMES, PROFILE, REGION
from scar.secret import Secret

Auth = Literal["iam", "none", "api_key"]
_AWS_DECIDES = "has no effect: SCAR writes what API Gateway needs to call the function"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiGateway:
    """An HTTP endpoint of the function in Amazon API Gateway."""

    # What PutMethod calls the same, and what it does not have: an API key is a property of its own there.
    AUTHORIZATIONS: ClassVar[Mapping[str, Auth]] = {"AWS_IAM": "iam", "NONE": "none"}

    name: Annotated[
        str | None,
        Key(
            "The name of the API; giving one makes it.",
            Pattern(r"[^\x00-\x1f\x7f]{1,1024}", says="1 to 1024 characters of one line"),
        ),
    ] = None
    auth: Annotated[
        Auth,
        Key(
            "Who may call it: whoever IAM lets (`iam`), everyone on the internet (`none`), or who sends the API key (`api_key`).",
            OneOf(("iam", "none", "api_key")),
        ),
    ] = "iam"
    boto_profile: Annotated[
        str | None, Key("The AWS profile for API Gateway; it can be the function's only.", PROFILE)
    ] = None
    region: Annotated[str | None, Key("The AWS region for API Gateway; it can be the function's only.", REGION)] = None
    endpoint: Annotated[str | None, Key("The form of the URL.", legacy="has no effect: AWS says what the URL is")] = (
        None
    )
    path_part: Annotated[
        str,
        Key(
            "The path below the stage: one step, or `{proxy+}` for every path.",
            Pattern(r"\{proxy\+\}|[a-zA-Z0-9._~:-]{1,128}", says="`{proxy+}`, or one step of a path"),
        ),
    ] = "{proxy+}"
    stage_name: Annotated[
        str, Key("The name of the stage.", Pattern(r"[a-zA-Z0-9_-]{1,128}", says="1 to 128 letters, digits, - or _"))
    ] = "scar"
    http_method: Annotated[
        str,
        Key("The HTTP method.", OneOf(("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"), upper=True)),
    ] = "ANY"
    method: Annotated[
        Mapping[str, object],
        Key(
            "SCAR 4's arguments of `PutMethod`: `authorizationType` (`NONE` or `AWS_IAM`) says the same as `auth`; the rest has no effect."
        ),
    ] = field(default_factory=dict)
    integration: Annotated[
        Mapping[str, object], Key("SCAR 4's arguments of `PutIntegration`.", legacy=_AWS_DECIDES)
    ] = field(default_factory=dict)
    request_parameters: Annotated[
        Mapping[str, object], Key("Parameters of the request.", legacy="has no effect, nor had it any in SCAR 4")
    ] = field(default_factory=dict)
    service_id: Annotated[str | None, Key("The service that may call the function.", legacy=_AWS_DECIDES)] = None
    source_arn_testing: Annotated[
        str | None, Key("What may call the function from the console.", legacy=_AWS_DECIDES)
    ] = None
    source_arn_invocation: Annotated[str | None, Key("What may call the function.", legacy=_AWS_DECIDES)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUrl:
    """An HTTP endpoint of the function in Lambda itself: no API, one URL, runs of up to `timeout`."""

    auth: Annotated[
        Literal["iam", "none"],
        Key("Who may call it: whoever IAM lets (`iam`), or everyone on the internet (`none`).", OneOf(("iam", "none"))),
    ] = "iam"


@dataclass(frozen=True, slots=True, kw_only=True)
class OscarService:
    """A service of an OSCAR cluster. Any text in it may hold `${env.NAME}`."""

    name: Annotated[
        str,
        Key(
            "The service's name.",
            Pattern(
                r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
                says="1 to 63 small letters, digits and `-`, as Kubernetes names things",
            ),
        ),
    ]
    endpoint: Annotated[
        str | None,
        Key(
            "The cluster's URL.",
            Pattern(r"https?://[^\s/]+(/\S*)?", says="a URL: `https://oscar.example`"),
            environ=True,
        ),
    ] = None
    auth_user: Annotated[str | None, Key("The cluster's user.", environ=True)] = None
    auth_password: Annotated[Secret | None, Key("The user's password.", environ=True)] = None
    ssl_verify: Annotated[bool, Key("Whether the cluster's certificate is checked.")] = True
    memory: Annotated[
        str,
        Key(
            "Memory, as Kubernetes writes it.",
            Pattern(r"[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?", says="a quantity such as `256Mi`"),
            as_written=True,
        ),
    ] = "256Mi"
    cpu: Annotated[
        str,
        Key(
            "Processors, as Kubernetes writes them.",
            Pattern(r"[0-9]+m|[0-9]*\.?[0-9]+", says="a quantity such as `0.2`"),
            as_written=True,
        ),
    ] = "0.2"
    log_level: Annotated[
        str, Key("How much is logged.", OneOf(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), upper=True))
    ] = "INFO"
    image: Annotated[str | None, Key("The image.", environ=True)] = None
    script: Annotated[Path | None, Key("The script; its text is sent.")] = None
    environment: Annotated[
        Mapping[str, str],
        Key(
            "What the script finds in its environment.",
            PROCESS_NAMES,
            wrapper="Variables",
            as_written=True,
            environ=True,
        ),
    ] = field(default_factory=dict)
    input: Annotated[tuple[Io, ...], Key("Where files come from.")] = ()
    output: Annotated[tuple[Io, ...], Key("Where files go.")] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of `functions.oscar`: a service, the cluster it is of, the storage that the file describes, and where it stands."""

    cluster: str
    oscar: OscarService
    storage_providers: StorageProviders = NO_PROVIDERS
    file: str = ""
    place: Place = NOWHERE
    path: str = ""  # `functions.oscar[0].my-cluster`

    @property
    def name(self) -> str:
        return self.oscar.name
