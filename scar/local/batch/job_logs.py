"""Where does a job's output go? The log group and stream that its definition names, or Batch's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scar.local.log_streams import LogGroup

DEFAULT_GROUP: Final = "/aws/batch/job"
_NAME_CHARACTERS: Final = 200  # batch/latest/userguide/job_states: of the definition's name


class NoLogGroupError(Exception):
    """The group is not there, in ECS's words."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`makes` says whether the group is made when it is absent."""

    group: LogGroup
    prefix: str
    makes: bool

    @classmethod
    def of(cls, container: Mapping[str, Any], definition_name: str, account: str, region: str) -> LogSettings:
        """`awslogs-*` as ECS reads them; without, /aws/batch/job, which Batch makes itself."""
        options: Mapping[str, str] = (container.get("logConfiguration") or {}).get("options") or {}
        name = options.get("awslogs-group")
        return cls(
            group=LogGroup(account, options.get("awslogs-region") or region, name or DEFAULT_GROUP),
            prefix=options.get("awslogs-stream-prefix") or definition_name[:_NAME_CHARACTERS],
            makes=name is None or options.get("awslogs-create-group", "").lower() == "true",
        )

    def stream(self, task: str) -> str:
        return f"{self.prefix}/default/{task}"

    def check(self) -> None:
        """Raises NoLogGroupError. A group that is to be made is made by the first word."""
        from moto.logs.models import logs_backends

        group = self.group
        if not self.makes and group.name not in logs_backends[group.account][group.region].groups:
            raise NoLogGroupError(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
                f"failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. ({group.name})"
            )
