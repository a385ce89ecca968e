"""Which images does a repository's lifecycle policy no longer keep? ECR's rules, evaluated without waiting for a day to pass.

Source: docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html. An image belongs to the rule with the lowest
priority number that selects it, and no later rule sees it.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

_DAY_S: Final = 86_400.0


class Pushed(Protocol):
    """What a rule looks at."""

    @property
    def digest(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def pushed_at(self) -> int: ...


def expired(policy: str | None, images: Sequence[Pushed], *, now: float) -> frozenset[str]:
    """Digests that go. `images` are in the order in which they were pushed."""
    if not policy:
        return frozenset()
    rules = sorted(json.loads(policy).get("rules", ()), key=lambda rule: rule["rulePriority"])
    gone: set[str] = set()
    taken: set[str] = set()
    for rule in rules:
        selected = [image for image in images if image.digest not in taken and _selects(rule["selection"], image)]
        taken |= {image.digest for image in selected}
        gone |= {image.digest for image in _surplus(rule["selection"], selected, now)}
    return frozenset(gone)


def _selects(selection: Mapping[str, Any], image: Pushed) -> bool:
    match selection["tagStatus"]:
        case "untagged":
            return not image.tags
        case "tagged":
            prefixes, patterns = selection.get("tagPrefixList", ()), selection.get("tagPatternList", ())
            # Every entry of a list has to be met by some tag of the image.
            return (
                bool(image.tags)
                and all(any(tag.startswith(prefix) for tag in image.tags) for prefix in prefixes)
                and all(any(fnmatch.fnmatchcase(tag, pattern) for tag in image.tags) for pattern in patterns)
            )
        case _:
            return True


def _surplus(selection: Mapping[str, Any], images: Sequence[Pushed], now: float) -> Sequence[Pushed]:
    number = int(selection["countNumber"])
    if selection["countType"] == "imageCountMoreThan":
        oldest_first = sorted(images, key=lambda image: image.pushed_at)  # stable: within a second, by order of arrival
        return oldest_first[: max(0, len(oldest_first) - number)]
    if selection["countType"] == "sinceImagePushed":
        return [image for image in images if now - image.pushed_at > number * _DAY_S]
    return ()
