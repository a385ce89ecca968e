"""May an image that somebody has put into ECR be run as it is? `container.create_image: false`: looked at, never changed.

How a deployment uses it, before anything is made:

    from scar.package.prepared import prepared_image
    image = prepared_image(fn, aws)       # reads only; raises ScarError with what to do
    image.uri_by_digest                   # Lambda's ImageUri; there is no repository of ours and nothing to push or to remove
    image.warnings                        # lines for the user, such as that SCAR's agent is not in it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.fdl.model import Function


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image that Lambda will take. `size` is that of its compressed layers in bytes.

    `has_agent` is False for an image that answers Lambda by itself: what the definition says of scripts, inputs and outputs is nothing to it.
    """

    uri_by_digest: str
    digest: str
    size: int
    has_agent: bool
    warnings: tuple[str, ...] = ()


def prepared_image(fn: Function, aws: Aws) -> PreparedImage:
    """The image that `container.image` names, when it can be run as it is.

    Raises UsageError when it is not in a private repository of this region, NotFoundError when it is not there, and ScarError when
    Lambda would not run it or when it was made for another definition.
    """
    raise NotImplementedError
