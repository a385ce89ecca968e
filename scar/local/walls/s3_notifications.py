"""S3 event notifications: a destination must let S3 in before it is named, and two rules must never ask for the same event of one key.

Source: AmazonS3/latest/userguide/notification-how-to-filtering; botocore s3:PutBucketNotificationConfiguration.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from scar.local.refusal import RefusalError
from scar.local.s3_keys import find_bucket


@dataclass(frozen=True, slots=True)
class Rule:
    """One configuration: which events of which keys go where."""

    identity: str | None
    target: str
    events: tuple[str, ...]
    prefix: str
    suffix: str

    def overlaps(self, other: Rule) -> bool:
        same_event = any(_covers(a, b) or _covers(b, a) for a in self.events for b in other.events)
        prefixes = self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)
        suffixes = self.suffix.endswith(other.suffix) or other.suffix.endswith(self.suffix)
        return same_event and prefixes and suffixes


def check(bucket_name: str, environ: dict[str, Any], body: bytes) -> None:
    try:
        rules = tuple(_rules(ElementTree.fromstring(body)))  # noqa: S314 - expat resolves no external entity and bounds expansion
    except ElementTree.ParseError:
        raise RefusalError(400, "MalformedXML", "The XML you provided was not well-formed.") from None
    identities = [rule.identity for rule in rules if rule.identity]
    if len(set(identities)) < len(identities):
        raise RefusalError(400, "InvalidArgument", "Same ID used for multiple configurations. IDs must be unique")
    for first, second in itertools.combinations(rules, 2):
        if first.overlaps(second):
            raise RefusalError(
                400,
                "InvalidArgument",
                "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are "
                "overlapping for the same event type.",
            )
    if environ.get("HTTP_X_AMZ_SKIP_DESTINATION_VALIDATION", "").lower() == "true":
        return
    bucket = find_bucket(bucket_name)
    for rule in rules:
        if bucket is not None and ":lambda:" in rule.target and not _lets_s3_in(rule.target, bucket):
            raise RefusalError(400, "InvalidArgument", "Unable to validate the following destination configurations")


def _rules(root: Element) -> Iterator[Rule]:
    for configuration in root:
        kind = _name(configuration).removesuffix("Configuration")
        if kind not in ("CloudFunction", "LambdaFunction", "Queue", "Topic"):
            continue
        filters: dict[str, str] = {}
        for rule in _all(configuration, "FilterRule"):
            name = _text(rule, "Name").lower()
            if name not in ("prefix", "suffix") or name in filters:
                raise RefusalError(400, "InvalidArgument", "filter rule name must be either prefix or suffix")
            filters[name] = _text(rule, "Value")
        targets = [
            e.text or "" for e in configuration if _name(e) in ("CloudFunction", "LambdaFunctionArn", "Queue", "Topic")
        ]
        yield Rule(
            identity=_text(configuration, "Id") or None,
            target="".join(targets),
            events=tuple(event.text or "" for event in _all(configuration, "Event")),
            prefix=filters.get("prefix", ""),
            suffix=filters.get("suffix", ""),
        )


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: Element, name: str) -> Iterator[Element]:
    return (found for found in element.iter() if _name(found) == name)


def _text(element: Element, name: str) -> str:
    return next((found.text or "" for found in element if _name(found) == name), "")


def _covers(pattern: str, event: str) -> bool:
    return fnmatch.fnmatchcase(event, pattern)


def _lets_s3_in(function_arn: str, bucket: Any) -> bool:
    """Whether a statement of the function's policy allows S3 to invoke it for this bucket."""
    from moto.awslambda.exceptions import LambdaClientError
    from moto.awslambda.models import lambda_backends

    parts = function_arn.split(":")
    try:
        function = lambda_backends[parts[4]][parts[3]].get_function(function_arn)
    except (LambdaClientError, IndexError, KeyError):
        return False
    # moto keeps an alias's or version's statements with the function, told apart by their Resource
    return any(_allows(statement, bucket) for statement in function.policy.statements)


def _allows(statement: dict[str, Any], bucket: Any) -> bool:
    principal = statement.get("Principal", {})
    service = principal.get("Service") if isinstance(principal, dict) else principal
    if service not in ("s3.amazonaws.com", "*") or statement.get("Action") not in (
        "lambda:InvokeFunction",
        "lambda:*",
        "*",
    ):
        return False
    for tests in statement.get("Condition", {}).values():
        for name, wanted in tests.items():
            key = name.rpartition(":")[2]
            if key == "SourceArn" and not fnmatch.fnmatchcase(bucket.arn, wanted):
                return False
            if key == "SourceAccount" and wanted != bucket.account_id:
                return False
    return True
