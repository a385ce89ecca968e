"""Rules of storage: which provider an item of `input` or `output` means, what a provider needs, and what functions in AWS can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from scar.fdl.forms import FormError, bucket_of
from scar.fdl.model import Function, Io
from scar.fdl.places import shown
from scar.fdl.providers import Provider
from scar.fdl.read import Reading
from scar.fdl.services import Service

OWN_S3: Final = "s3"
# Kinds whose paths begin with a bucket of S3's rules; elsewhere a path is just a path.
_WITH_BUCKETS: Final = frozenset({"s3", "minio"})
# What speaks no protocol that SCAR's agent speaks
_NOT_IN_AWS: Final = {
    "onedata": "a function in AWS would need Onedata's own file system client for it",
    "rucio": "Rucio moves data between sites, it does not hand files to one process",
}


@dataclass(frozen=True, slots=True)
class _Item:
    """An item of `input` or `output` with its key path. `service`: it is OSCAR's to reach."""

    io: Io
    path: str
    service: bool


def storage(functions: Sequence[Function], services: Sequence[Service], reading: Reading) -> None:
    """Add what is wrong with providers, and with the items that name them. A provider that nobody uses is a warning."""
    providers = [*(fn.storage_providers for fn in functions), *(service.storage_providers for service in services)]
    described = dict(providers[0].named()) if providers else {}  # each has the file's
    items = [*_of_functions(functions), *_of_services(services)]
    for item in items:
        _bucket(item, reading)
        if reading.sound(f"{item.path}.storage_provider"):
            _described(item, described, reading)
    used = {item.io.provider for item in items}
    in_aws = {item.io.provider for item in items if not item.service}
    for name, provider in described.items():
        path = f"storage_providers.{name}"
        if any(failed.startswith(path) for failed in reading.failed):
            continue
        _provider(name, provider, path, reading, in_aws=name in in_aws)
        if name not in used:
            reading.problems.warn(
                reading.place(path),
                path,
                "nothing uses this storage provider",
                f"Write `storage_provider: {name}` where it is meant, or remove it.",
            )


def _of_functions(functions: Sequence[Function]) -> Iterator[_Item]:
    for index, fn in enumerate(functions):
        for name, items in (("input", fn.lambda_.input), ("output", fn.lambda_.output)):
            for number, io in enumerate(items):
                yield _Item(io, f"functions.aws[{index}].lambda.{name}[{number}]", service=False)


def _of_services(services: Sequence[Service]) -> Iterator[_Item]:
    for service in services:
        for name, items in (("input", service.oscar.input), ("output", service.oscar.output)):
            for number, io in enumerate(items):
                yield _Item(io, f"{service.path}.{name}[{number}]", service=True)


def _bucket(item: _Item, reading: Reading) -> None:
    """Whether the first step can be a bucket, where it is one."""
    path = f"{item.path}.path"
    if item.io.provider.partition(".")[0] not in _WITH_BUCKETS or not reading.sound(path):
        return
    try:
        bucket_of(item.io.path)
    except FormError as error:
        reading.problems.add(reading.place(path), path, error.what, error.fix)
        reading.failed.add(path)


def _described(item: _Item, described: dict[str, Provider], reading: Reading) -> None:
    path, name = f"{item.path}.storage_provider", item.io.provider
    kind = name.partition(".")[0]
    place = reading.place(path)
    if item.service:
        # A cluster brings a MinIO of its own, called `minio.default`.
        if name not in described and name not in {OWN_S3, "minio.default"}:
            _undescribed(name, described, path, reading)
    elif kind in _NOT_IN_AWS:
        reading.problems.add(
            place,
            path,
            f"functions in AWS do not reach `{name}`: {_NOT_IN_AWS[kind]}",
            "Use S3, MinIO or WebDAV, or run it as a service of OSCAR.",
        )
    elif name != OWN_S3 and name not in described:
        _undescribed(name, described, path, reading)


def _undescribed(name: str, described: dict[str, Provider], path: str, reading: Reading) -> None:
    kind, _, id_ = name.partition(".")
    known = ", ".join(f"`{each}`" for each in described)
    others = f" Those that are described: {known}." if known else ""
    reading.problems.add(
        reading.place(path),
        path,
        f"no storage provider is called `{shown(name)}`",
        f"Describe it at the top of the file: `storage_providers: {{{kind}: {{{id_}: {{…}}}}}}`.{others}",
    )


def _provider(name: str, provider: Provider, path: str, reading: Reading, *, in_aws: bool) -> None:
    place = reading.place(path)
    if name == "s3.default":
        reading.problems.add(
            place,
            path,
            "`s3.default` is the function's own S3, with the rights of its role",
            "Give this provider another name.",
        )
    held, wanted = set(provider.credentials), set(provider.WANTED)
    if provider.secret is not None and held:
        reading.problems.add(
            place, path, "credentials are given here, and `secret` says that they are elsewhere", "Keep one of the two."
        )
    elif provider.secret is None and (absent := sorted(wanted - held)):
        reading.problems.add(
            place,
            path,
            f"`{'` and `'.join(absent)}` {'is' if len(absent) == 1 else 'are'} missing",
            "Add it, best as `${env.NAME}`, or name an SSM parameter with `secret`."
            if len(absent) == 1
            else "Add them, best as `${env.NAME}`, or name an SSM parameter with `secret`.",
        )
    elif provider.secret is None and not wanted and not held:
        reading.problems.add(place, path, "a token is missing", "Add `access_token` or `refresh_token`.")
    if in_aws and provider.KIND == "minio" and not provider.url:
        reading.problems.add(
            place,
            path,
            "`endpoint` is missing: a function in AWS does not know where this server is",
            "Add `endpoint: https://…`.",
        )
    if in_aws and provider.KIND == "webdav" and provider.url.startswith("http://") and not provider.private:
        reading.problems.add(
            place,
            path,
            "the password would be sent without TLS",
            "Write `https://`, or `private: true` for a server in a network of your own.",
        )
    elif provider.url.startswith("http://"):
        reading.problems.warn(
            place,
            path,
            "the server is spoken to without TLS: whoever is on the way can read the credentials",
            "Write `https://`.",
        )
    if not provider.verify:
        reading.problems.warn(
            place,
            path,
            "the server's certificate is not checked: anyone on the way can pretend to be it",
            "Remove `verify: false`.",
        )
