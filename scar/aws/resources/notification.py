"""A bucket telling a function about new objects: our entries in a list that the bucket shares with everyone.

S3 keeps one configuration a bucket and replaces it whole, without a guard against concurrent writers. So a write here reads,
changes only entries whose Id is this function's, keeps every other entry as it came, writes, and reads again to see that ours
are there. A lease keeps scar processes apart; whoever else interferes is outlasted by repeating.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from botocore.exceptions import ClientError

from scar.aws import lease, names
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.state_bucket import members
from scar.aws.wait import until
from scar.plan.resource import Id

SETTLE_S: Final = 60.0
_LAMBDAS: Final = "LambdaFunctionConfigurations"


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One rule of ours: which keys (`prefix`, `suffix`; '' is any) and which events."""

    prefix: str
    events: tuple[str, ...] = ("s3:ObjectCreated:*",)
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}*{self.suffix}"

    def overlaps(self, other: Entry) -> bool:
        """Whether S3 refuses the two in one bucket. Source: AmazonS3/latest/userguide/notification-how-to-filtering."""
        return (
            any(fnmatchcase(a, b) or fnmatchcase(b, a) for a in self.events for b in other.events)
            and (self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix))
            and (self.suffix.endswith(other.suffix) or other.suffix.endswith(self.suffix))
        )


@dataclass(frozen=True, slots=True)
class Rival:
    """Somebody else's entry (`theirs`, for the ARN `target`) that overlaps one of `ours`. `function`: of ours, if it is one of scar's."""

    ours: Entry
    theirs: Entry
    target: str
    function: str | None


@dataclass(frozen=True, slots=True)
class Notification:
    """All entries of one function in one bucket; never none."""

    function: str
    function_arn: str
    bucket: str
    entries: tuple[Entry, ...]
    state_bucket: str = field(compare=False)

    @property
    def id(self) -> Id:
        return Id("notification", f"{self.bucket} → {self.function}")

    @property
    def needs(self) -> tuple[Id, ...]:
        return (
            Id("permission", f"{self.bucket} → {self.function}"),
            Id("function", self.function),
            Id("bucket", self.bucket),
            Id("state bucket", self.state_bucket),
        )

    @property
    def note(self) -> str:
        return ", ".join(map(str, self.entries))

    def read(self, aws: Aws) -> Notification | None:
        configuration = self._get(aws)
        if configuration is None:
            return None
        entries = self._ours(configuration)
        return replace(self, entries=entries) if entries else None

    def rivals(self, aws: Aws) -> tuple[Rival, ...]:
        """Entries of others that S3 would not have beside ours; not those of functions of ours that are gone."""
        configuration = self._get(aws) or {}
        lists = [value for value in configuration.values() if isinstance(value, list)]
        others = [item for items in lists for item in items if not self._is_ours(item)]
        found = [
            (item, Rival(mine, theirs, _target(item), names.notifying_function(str(item.get("Id", "")))))
            for item in others
            for theirs in [_entry(item)]
            for mine in self.entries
            if mine.overlaps(theirs)
        ]
        dead = self._dead(aws, [item for item, _ in found])
        return tuple(rival for item, rival in found if item.get("Id") not in dead)

    def create(self, aws: Aws) -> None:
        self._rewrite(aws, self.entries)

    def update(self, aws: Aws, actual: Notification) -> None:
        self._rewrite(aws, self.entries)

    def delete(self, aws: Aws) -> None:
        self._rewrite(aws, ())

    def _rewrite(self, aws: Aws, entries: tuple[Entry, ...]) -> None:
        wanted = tuple(sorted(entries))

        def attempt() -> bool | None:
            with lease.held(aws, self.state_bucket, f"{names.LEASES_PREFIX}notification/{self.bucket}") as hold:
                settled = self._settle(aws, wanted, hold)
            if settled and hold.taken_over:
                aws.clock.sleep(lease.LEASE_S)  # its former holder may have been about to write what it had read
                return None
            return settled

        what = f"the notifications of bucket {self.bucket} to settle"
        until(attempt, deadline_s=SETTLE_S + lease.WAIT_S, what=what, clock=aws.clock)

    def _settle(self, aws: Aws, wanted: tuple[Entry, ...], hold: lease.Lease) -> bool | None:
        """True when the bucket has `wanted`; None: look again."""
        before = self._get(aws)
        if before is None:
            return None if wanted else True  # it may be on its way
        if self._ours(before) == wanted:
            return True
        merged = self._merged(aws, before, wanted)
        if not hold.fresh:
            return None
        self._put(aws, merged)
        after = self._get(aws)
        return True if after is not None and self._ours(after) == wanted else None

    def _get(self, aws: Aws) -> dict[str, Any] | None:
        try:
            answer: Mapping[str, Any] = aws.s3.get_bucket_notification_configuration(
                Bucket=self.bucket, ExpectedBucketOwner=aws.account
            )
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    def _put(self, aws: Aws, configuration: dict[str, Any]) -> None:
        # Validation would send a test message to every queue and topic of others, and fail on their dead entries.
        wire: Any = configuration
        aws.s3.put_bucket_notification_configuration(
            Bucket=self.bucket,
            ExpectedBucketOwner=aws.account,
            SkipDestinationValidation=True,
            NotificationConfiguration=wire,
        )

    def _is_ours(self, item: Mapping[str, Any]) -> bool:
        return item.get("LambdaFunctionArn") == self.function_arn and names.is_notification_of(
            self.function, str(item.get("Id", ""))
        )

    def _ours(self, configuration: Mapping[str, Any]) -> tuple[Entry, ...]:
        return tuple(sorted(_entry(item) for item in configuration.get(_LAMBDAS, ()) if self._is_ours(item)))

    def _merged(self, aws: Aws, before: Mapping[str, Any], wanted: Iterable[Entry]) -> dict[str, Any]:
        others = [item for item in before.get(_LAMBDAS, ()) if not self._is_ours(item)]
        dead = self._dead(aws, others)
        lambdas = [item for item in others if item.get("Id") not in dead] + [self._wire(entry) for entry in wanted]
        merged = {key: value for key, value in before.items() if key != _LAMBDAS}
        return {**merged, _LAMBDAS: lambdas} if lambdas else merged

    def _wire(self, entry: Entry) -> dict[str, Any]:
        item: dict[str, Any] = {
            "Id": names.notification_id(self.function, f"{entry.prefix}|{entry.suffix}"),
            "LambdaFunctionArn": self.function_arn,
            "Events": list(entry.events),
        }
        filters = [("prefix", entry.prefix), ("suffix", entry.suffix)]
        if rules := [{"Name": name, "Value": value} for name, value in filters if value]:
            item["Filter"] = {"Key": {"FilterRules": rules}}
        return item

    def _dead(self, aws: Aws, others: Iterable[Mapping[str, Any]]) -> frozenset[str]:
        """Ids of entries that scar made for functions that are gone: no mark in the state bucket and no function."""
        place = self.function_arn.removesuffix(self.function)
        made = {
            str(item["Id"]): name
            for item in others
            if (name := names.notifying_function(str(item.get("Id", ""))))
            and item.get("LambdaFunctionArn") == place + name
        }
        if not made:
            return frozenset()
        alive = members(aws, self.state_bucket)
        suspects = {name for name in made.values() if name not in alive}
        gone = {name for name in suspects if _is_gone(aws, name)}
        return frozenset(entry_id for entry_id, name in made.items() if name in gone)


def _entry(item: Mapping[str, Any]) -> Entry:
    rules = ((item.get("Filter") or {}).get("Key") or {}).get("FilterRules") or ()
    by_name = {str(rule["Name"]).lower(): str(rule["Value"]) for rule in rules}
    return Entry(by_name.get("prefix", ""), tuple(item["Events"]), by_name.get("suffix", ""))


def _target(item: Mapping[str, Any]) -> str:
    return next((str(item[key]) for key in ("LambdaFunctionArn", "QueueArn", "TopicArn") if key in item), "")


def _is_gone(aws: Aws, function: str) -> bool:
    try:
        aws.lambda_.get_function_configuration(FunctionName=function)
    except ClientError as error:
        return code_of(error) == "ResourceNotFoundException"
    return False
