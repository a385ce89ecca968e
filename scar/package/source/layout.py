"""Which image of an OCI layout is meant? An index may name many, by their tags.

Tools note the tag of an image in the annotation `org.opencontainers.image.ref.name` (OCI image-spec 1.1, annotations), some with the
repository before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from scar.errors import NotFoundError, ScarError
from scar.package.source.archive import Archive
from scar.package.source.resolve import parse

_NAMES: Final = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


class Layout:
    """A Place in an OCI layout: the image that is called `wanted`, or the only one that fits the platform."""

    def __init__(self, archive: Archive, architecture: str, wanted: str | None) -> None:
        self.where = archive.where
        self.manifest, self.blob = archive.manifest, archive.blob
        self._archive, self._architecture, self._wanted = archive, architecture, wanted

    def top(self) -> tuple[bytes, str]:
        content, media_type = self._archive.top()
        entries = parse(content, self.where).get("manifests")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return content, media_type  # `resolve` says what is wrong with it
        if self._wanted is None:
            self._only_one(entries)
            return content, media_type
        chosen = [entry for entry in entries if self._wanted in _tags(entry)]
        if not chosen:
            known = sorted({tag for entry in entries for tag in _names(entry)})
            raise NotFoundError(
                f"no image is called {self._wanted!r} here, only {', '.join(known) or 'ones without names'}",
                where=self.where,
            )
        return json.dumps({"schemaVersion": 2, "manifests": chosen}).encode(), media_type

    def _only_one(self, entries: list[Mapping[str, Any]]) -> None:
        """Of several named images that could all run, one has to be chosen."""
        fitting = [entry for entry in entries if _names(entry) and self._may_run(entry)]
        if len({str(entry.get("digest")) for entry in fitting}) > 1:
            known = sorted({tag for entry in fitting for tag in _names(entry)})
            raise ScarError(
                f"it holds {len(fitting)} images ({', '.join(known)}): which one is meant?",
                where=self.where,
                fix=f"Name it: `image: oci:FOLDER:{known[0]}`, or `oci-archive:FILE:{known[0]}`.",
            )

    def _may_run(self, entry: Mapping[str, Any]) -> bool:
        platform = entry.get("platform")
        return not isinstance(platform, dict) or platform.get("architecture") == self._architecture


def _names(entry: Mapping[str, Any]) -> tuple[str, ...]:
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return ()
    return tuple(value for key in _NAMES if isinstance(value := annotations.get(key), str) and value)


def _tags(entry: Mapping[str, Any]) -> set[str]:
    """The names as they are, and the tags at their ends."""
    names = _names(entry)
    return {*names, *(tag for name in names if "/" not in (tag := name.rpartition(":")[2]))}
