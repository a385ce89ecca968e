"""From a function as its file describes it to the document that its agent reads: a pure mapping."""

from __future__ import annotations

from faassupervisor import contract
from scar.aws import names
from scar.fdl.model import Function, Io, Provider


def spec_of(fn: Function) -> contract.Spec:
    """What the agent of `fn` must know. The image's own process is filled in by `derive`, which alone sees the image."""
    settings = fn.lambda_
    return contract.Spec(
        name=settings.name,
        mode=settings.execution_mode,
        has_script=settings.init_script is not None,
        environment=dict(settings.container.environment),
        inputs=tuple(_storage(item) for item in settings.input),
        outputs=tuple(_storage(item) for item in settings.output),
        timeout_threshold_s=settings.container.timeout_threshold,
        log_level=settings.log_level,
        spill=settings.spill,
        providers=tuple(_provider(fn.name, name, provider) for name, provider in fn.providers.items()),
    )


def _provider(function: str, name: str, provider: Provider) -> contract.Provider:
    """Where it is and where its credentials lie: never the credentials."""
    return contract.Provider(
        name=name,
        secret=names.credentials_of(function, name, provider.secret),
        endpoint=provider.url,
        region=provider.region or "",
        verify=provider.verify,
        private=provider.private,
    )


def _storage(io: Io) -> contract.Storage:
    return contract.Storage(
        provider=io.provider,
        bucket=io.bucket,
        folder=io.folder.strip("/"),
        prefix=io.prefix,
        suffix=io.suffix,
    )
