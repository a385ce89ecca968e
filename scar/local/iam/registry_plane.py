"""What does a request to the registry itself (`/v2/…`) need? ECR asks for the actions of its API behind each call of the OCI protocol.

Source: AmazonECR/latest/userguide/image-push-iam, repository-policy-examples
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from scar.local.iam.evaluate import Asked

_PLACE: Final = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>blobs/uploads|blobs|manifests|tags)(?:/.*)?")
_ACTIONS: Final = {
    ("blobs", True): ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer"),
    ("manifests", True): ("ecr:BatchGetImage",),
    ("manifests", False): ("ecr:PutImage",),
    ("tags", True): ("ecr:ListImages",),
}
_UPLOADS: Final = {
    "POST": ("ecr:InitiateLayerUpload",),
    "PATCH": ("ecr:UploadLayerPart",),
    "PUT": ("ecr:CompleteLayerUpload",),
    "GET": ("ecr:UploadLayerPart",),
    "DELETE": ("ecr:UploadLayerPart",),
}


def asked_of_registry(method: str, path: str, account: str, region: str) -> Iterator[Asked]:
    """A HEAD of a blob asks whether it is there; a GET fetches it."""
    found = _PLACE.fullmatch(path)
    if found is None:
        return
    kind, reads = found["kind"], method in ("GET", "HEAD")
    actions = (
        _UPLOADS.get(method, ()) if kind == "blobs/uploads" else _ACTIONS.get((kind, reads), ("ecr:BatchDeleteImage",))
    )
    if kind == "blobs":
        actions = actions[:1] if method == "HEAD" else actions[1:]
    for action in actions:
        yield Asked(action, f"arn:aws:ecr:{region}:{account}:repository/{found['name']}")
