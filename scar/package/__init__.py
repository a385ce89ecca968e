"""Images: a user's image and the agent become a function's image, without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scar.errors import ScarError, UsageError

if TYPE_CHECKING:
    from scar.fdl.model import Function
    from scar.package import oci
    from scar.package.progress import Tell
    from scar.package.registry.credentials import Keychain


def function_image(
    fn: Function,
    *,
    cache: Path,
    tell: Tell | None = None,
    keychain: Keychain | None = None,
    docker_host: str | None = None,
) -> oci.Image:
    """The image that `fn` runs as: its own image, the agent, its spec and its script. Ready to push; nothing is sent.

    The same definition, image and scar give the same digest. `keychain` answers who we are to the registry that the
    user's image comes from (`ecr.ecr_keychain` knows private ECR as well); None: what `docker login` wrote. `docker_host` is what
    DOCKER_HOST says. An image that is to be run as it is (`create_image: false`) is `prepared.prepared_image`'s.
    """
    from scar.package.agent import agent_layer
    from scar.package.derive import derive
    from scar.package.progress import ignore
    from scar.package.source import open_image
    from scar.package.spec import spec_of

    settings = fn.lambda_
    if not settings.container.create_image:
        raise UsageError("`create_image: false` runs the image as it is: none is derived from it", where=fn.name)
    tell = tell or ignore
    script = None if settings.init_script is None else _script(settings.init_script)
    agent = agent_layer(settings.architecture, cache=cache, tell=tell)
    container = settings.container
    base = open_image(
        container.image,
        container.image_file,
        architecture=settings.architecture,
        cache=cache,
        keychain=keychain,
        tell=tell,
        folder=fn.source.parent if fn.source else Path(),
        docker_host=docker_host,
    )
    return derive(base, agent, spec=spec_of(fn), script=script)


def _script(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScarError(f"the init script cannot be read: {error.strerror}", where=str(path)) from error
