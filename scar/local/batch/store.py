"""The control plane on disk: one snapshot for each region, replaced whole; requests that change one at once share a write.

A file that does not add up is refused with the way out, as all of the local AWS's are (scar.local.snapshot).
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from pathlib import Path
from typing import Any, Final

from scar.local import snapshot
from scar.local.batch.records import ComputeEnvironment, JobDefinition, JobQueue, Region, SchedulingPolicy
from scar.local.saving import Saver
from scar.local.state import StateDamagedError, make_folder, sweep_unfinished

WRITTEN_BY: Final = "batch 1"  # of the records' form: a newer one cannot be read by an older SCAR
_FILE: Final = re.compile(r"(?P<account>[0-9]{12})\.(?P<region>[a-z0-9-]+)\.snapshot")


class Store:
    """All regions below one folder. A region is made when it is first asked for, and kept on disk once something is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._regions: dict[tuple[str, str], tuple[Region, Saver]] = {}
        self._lock = threading.Lock()
        make_folder(folder)
        sweep_unfinished(folder)
        for path in sorted(folder.glob("*.snapshot")):
            if (named := _FILE.fullmatch(path.name)) is not None:
                self._fill(self.region(named["account"], named["region"]), path)

    def region(self, account: str, region: str) -> Region:
        return self._held(account, region)[0]

    def regions(self) -> list[Region]:
        with self._lock:
            return [region for region, _ in self._regions.values()]

    def save(self, region: Region) -> None:
        """Return when the region's present state is on disk."""
        self._held(region.account, region.region)[1].save()

    def _held(self, account: str, name: str) -> tuple[Region, Saver]:
        with self._lock:
            if (account, name) not in self._regions:
                region = Region(account, name)
                file = _File(self._folder / f"{account}.{name}.snapshot", region)
                self._regions[account, name] = region, Saver(file.write)
            return self._regions[account, name]

    def _fill(self, region: Region, path: Path) -> None:
        payload = snapshot.read(path, written_by=WRITTEN_BY)
        try:
            _restore(region, json.loads(payload))
        except (ValueError, TypeError, KeyError) as error:
            raise StateDamagedError(path, f"The snapshot cannot be read back: {error}.") from error


class _File:
    """What was written last is not written again: a change that settles at once is one write."""

    def __init__(self, path: Path, region: Region) -> None:
        self._path, self._region = path, region
        self._written = b""

    def write(self) -> None:
        payload = _dump(self._region)
        if payload != self._written:
            snapshot.write(self._path, payload, written_by=WRITTEN_BY)
            self._written = payload


def _dump(region: Region) -> bytes:
    with region.lock:  # for as short as may be: a record's members are replaced, never changed in place
        document = {
            "environments": [_row(one) for one in region.environments.values()],
            "queues": [_row(one) for one in region.queues.values()],
            "definitions": [_row(one) for each in region.definitions.values() for one in each],
            "policies": [_row(one) for one in region.policies.values()],
        }
    return json.dumps(document, separators=(",", ":")).encode()


def _row(record: ComputeEnvironment | JobQueue | JobDefinition | SchedulingPolicy) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _restore(region: Region, document: dict[str, Any]) -> None:
    region.environments = {row["name"]: ComputeEnvironment(**row) for row in document["environments"]}
    for row in document["queues"]:
        region.queues[row["name"]] = JobQueue(**{**row, "environments": tuple(row["environments"])})
    for row in document["definitions"]:  # revisions lie in their order
        region.definitions.setdefault(row["name"], []).append(JobDefinition(**row))
    region.policies = {row["name"]: SchedulingPolicy(**row) for row in document["policies"]}
