"""Which account, region and manner of speaking a command uses, and where each of these came from.

Precedence: flag, `SCAR_*`, the definition file, `AWS_*`, the configuration file, boto's own configuration, default.
The process environment is read here, handed in as a mapping, and never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

LOCAL_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Origin(Generic[T]):
    """A value and who said so: `flag --region`, `SCAR_REGION`, `default` …"""

    value: T
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What every command needs to know before it speaks to AWS. A region of None leaves the choice to boto's configuration.

    `docker_host` is where a Docker daemon answers (DOCKER_HOST, `unix:///…`); None: at its usual place. `local_iam` says
    whether the local AWS enforces IAM (SCAR_LOCAL_IAM); None: as last time.
    """

    local: Origin[bool]
    profile: Origin[str | None]
    region: Origin[str | None]
    engine: Origin[str]
    local_state: Path
    cache: Path
    docker_host: str | None = None
    local_iam: bool | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags that settings listen to, as given; None is 'not given'."""

    local: bool | None = None
    profile: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Defined:
    """What a file says about the same things: a definition, or the configuration. `source` is what to call it."""

    profile: str | None = None
    region: str | None = None
    source: str = "configuration file"


def settle(
    asked: Asked, environ: Mapping[str, str], defined: Defined = Defined(), configured: Defined = Defined()
) -> Settings:
    """Decide each setting by precedence. Pure."""
    local = _first(
        (asked.local, "flag --local"),
        (_truth(environ.get("SCAR_LOCAL")), "SCAR_LOCAL"),
        default=False,
    )
    return Settings(
        local=local,
        profile=_optional(
            (asked.profile, "flag --profile"),
            (environ.get("SCAR_PROFILE"), "SCAR_PROFILE"),
            (defined.profile, "definition file"),
            (
                None if environ.get("AWS_PROFILE") else configured.profile,
                configured.source,
            ),  # boto reads AWS_PROFILE itself
        ),
        region=_optional(
            (asked.region, "flag --region"),
            (environ.get("SCAR_REGION"), "SCAR_REGION"),
            (defined.region, "definition file"),
            # A real account's region must not decide where the local AWS keeps things: they would seem gone elsewhere.
            (None if local.value else environ.get("AWS_REGION"), "AWS_REGION"),
            (None if local.value else environ.get("AWS_DEFAULT_REGION"), "AWS_DEFAULT_REGION"),
            (None if local.value else configured.region, configured.source),
            (LOCAL_REGION if local.value else None, "default of the local AWS"),
        ),
        engine=_first((environ.get("SCAR_ENGINE"), "SCAR_ENGINE"), default="auto"),
        local_state=_folder(environ, "SCAR_LOCAL_STATE", "XDG_STATE_HOME", ".local/state", "scar/local"),
        cache=_folder(environ, "SCAR_CACHE", "XDG_CACHE_HOME", ".cache", "scar"),
        docker_host=environ.get("DOCKER_HOST") or None,
        local_iam=_truth(environ.get("SCAR_LOCAL_IAM") or None),
    )


def configuration_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The configuration files that there are, the one that counts first; none is needed. `config.yaml` is ours, `scar.cfg` is SCAR 4's."""
    if folder := environ.get("SCAR_CONFIG_FOLDER"):
        places = [Path(folder)]
    else:
        places = [_folder(environ, "SCAR_CONFIG_FOLDER", "XDG_CONFIG_HOME", ".config", "scar"), _home() / ".scar"]
    ours = places[0].absolute() / "config.yaml"
    old = next((path for place in places if (path := place.absolute() / "scar.cfg").is_file()), None)
    return (*([ours] if ours.is_file() else []), *([old] if old is not None else []))


def explained(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, Origin[object]]]:
    """Every setting with its value and who said so, in the order of the reference."""
    for name in ("local", "profile", "region", "engine"):
        origin = getattr(settings, name)
        yield name, Origin(origin.value, origin.source)
    for name, own, xdg, path in (
        ("local_state", "SCAR_LOCAL_STATE", "XDG_STATE_HOME", settings.local_state),
        ("cache", "SCAR_CACHE", "XDG_CACHE_HOME", settings.cache),
    ):
        base = environ.get(xdg, "")
        source = own if environ.get(own) else xdg if base and Path(base).is_absolute() else "default"
        yield name, Origin(str(path), source)
    yield "docker_host", Origin(settings.docker_host, "DOCKER_HOST" if settings.docker_host else "default")


def _first(*choices: tuple[T | None, str], default: T) -> Origin[T]:
    for value, source in choices:
        if value is not None:
            return Origin(value, source)
    return Origin(default, "default")


def _optional(*choices: tuple[str | None, str]) -> Origin[str | None]:
    for value, source in choices:
        if value:
            return Origin(value, source)
    return Origin(None, "default")


def _truth(text: str | None) -> bool | None:
    return None if text is None else text.lower() in {"1", "true", "yes", "on"}


def _folder(environ: Mapping[str, str], own: str, xdg: str, home: str, name: str) -> Path:
    if own_value := environ.get(own):
        return Path(own_value).absolute()
    base = environ.get(xdg)
    if base and Path(base).is_absolute():  # the XDG specification: a relative path is invalid and ignored
        return Path(base) / name
    return _home() / home / name


def _home() -> Path:
    """The home folder; `/` for a process that has none, where nothing of ours will be."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
