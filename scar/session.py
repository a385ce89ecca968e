"""The composition root: Settings → Aws. The one place that knows that AWS may be on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scar.errors import UsageError
from scar.settings import Settings

if TYPE_CHECKING:
    from scar.aws.clients import Access, Aws
    from scar.report import Report


def connect(settings: Settings, report: Report) -> Aws:
    """An account to work with. With `--local` the local AWS is started when it is not up.

    Raises UsageError when no region is known: it is asked for, never guessed.
    """
    from scar.aws.clients import Access, Aws

    if settings.local.value:
        return _told(Aws(_local_access(settings, report)), report)
    region = settings.region.value or _configured_region(settings.profile.value)
    if region is None:
        raise UsageError(
            "no AWS region is set",
            fix="Give --region, set AWS_REGION, or use the local AWS: scar --local …",
        )
    return _told(Aws(Access(region=region, profile=settings.profile.value)), report)


def _told(aws: Aws, report: Report) -> Aws:
    """With `--verbose` every call is a remark, with `--debug` also what was sent."""
    if report.style.verbosity:
        from scar.aws.calls import tell_calls

        tell_calls(aws, report.complain, parameters=report.style.verbosity > 1)
    return aws


def _local_access(settings: Settings, report: Report) -> Access:
    from scar.aws.clients import Access
    from scar.local.lifecycle import ensure_up

    endpoint = ensure_up(settings.local_state, engine=settings.engine.value, iam=settings.local_iam, tell=report.say)
    # The keys of the local account's root: no secret, and the user's real ones must never be sent to it.
    return Access(
        region=settings.region.value or "us-east-1",
        endpoint_url=endpoint.url,
        access_key="local",
        secret_key="local",  # noqa: S106 - known to everybody
    )


def _configured_region(profile: str | None) -> str | None:
    import botocore.session

    region: str | None = botocore.session.Session(profile=profile).get_config_variable("region")
    return region
