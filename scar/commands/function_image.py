"""The link between a plan, which knows an image by its digest, and the registry that it is pushed to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scar.errors import ConflictError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.package.oci import Image
    from scar.package.registry.push import PushResult
    from scar.report import Report


@dataclass(frozen=True)
class FunctionImage:
    """A `design.FunctionImage` that `apply` publishes. `results` tells what became of its bytes."""

    image: Image
    report: Report
    cache: Path
    results: list[PushResult] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return self.image.digest

    @property
    def size(self) -> int:
        return self.image.size

    def publish(self, aws: Aws, repository: str) -> None:
        from scar.aws.resources.repository import image_tag
        from scar.package.ecr import ecr_registry, why_bytes_moved
        from scar.package.sightings import Sightings

        registry, tag = ecr_registry(aws), image_tag(self.digest)
        with self.report.progress(f"pushing to {repository}") as progress:
            try:
                sightings = Sightings(self.cache, registry.host)
                result = sightings.push(self.image, registry, repository, tag=tag, tell=progress)
            except ConflictError:
                # Somebody pushed the same image meanwhile, and a tag that may not move may not be set twice either.
                if registry.manifest(repository, tag).digest != self.digest:
                    raise
                return
        self.results.append(result)
        if advice := why_bytes_moved(aws, self.image, repository, result):
            self.report.say(advice)
