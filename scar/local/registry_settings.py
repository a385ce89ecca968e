"""What has an account set for its ECR in a region? Account settings and pull-through cache rules, in one file."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from scar.local import snapshot

WRITTEN_BY: Final = "registry 1"  # of what the registry keeps beside its blobs
BLOB_MOUNTING: Final = "BLOB_MOUNTING"
ENABLED: Final = "ENABLED"
# ecr:GetAccountSetting's names and what they are in a new account (Amazon ECR user guide, "Private registry settings")
DEFAULTS: Final[Mapping[str, str]] = {
    BLOB_MOUNTING: "DISABLED",
    "BASIC_SCAN_TYPE_VERSION": "AWS_NATIVE",
    "REGISTRY_POLICY_SCOPE": "V2",
}


class Rule(NamedTuple):
    """A pull-through cache: what begins with `prefix/` comes from the registry at `upstream` (a host)."""

    prefix: str
    upstream: str
    created_at: float


class Settings:
    """On disk before anybody hears of it; safe from any thread."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        document = snapshot.read_document(file, written_by=WRITTEN_BY) if file.exists() else {}
        self._values: dict[str, dict[str, str]] = document.get("values", {})
        self._rules = {place: [Rule(*rule) for rule in rules] for place, rules in document.get("rules", {}).items()}

    def value(self, account: str, region: str, name: str) -> str:
        """An account setting; KeyError for a name that ECR does not know."""
        return self._values.get(f"{account}/{region}", {}).get(name) or DEFAULTS[name]

    def set_value(self, account: str, region: str, name: str, value: str) -> None:
        with self._lock:
            self._values.setdefault(f"{account}/{region}", {})[name] = value
            self._write()

    def rules(self, account: str, region: str) -> tuple[Rule, ...]:
        return tuple(self._rules.get(f"{account}/{region}", ()))

    def rule_of(self, account: str, region: str, repository: str) -> Rule | None:
        """The pull-through cache that a repository belongs to."""
        return next((rule for rule in self.rules(account, region) if repository.startswith(f"{rule.prefix}/")), None)

    def set_rules(self, account: str, region: str, rules: tuple[Rule, ...]) -> None:
        with self._lock:
            self._rules[f"{account}/{region}"] = list(rules)
            self._write()

    def _write(self) -> None:
        document = {"values": self._values, "rules": self._rules}
        snapshot.write_document(self._file, document, written_by=WRITTEN_BY)
