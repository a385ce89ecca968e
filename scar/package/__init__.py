"""Images: a user's image and the agent become a function's image, without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scar.errors import ScarError

if TYPE_CHECKING:
    from scar.fdl.model import Function
    from scar.package import oci
    from scar.package.credentials import Keychain
    from scar.package.progress import Tell


def function_image(
    fn: Function, *, cache: Path, tell: Tell | None = None, keychain: Keychain | None = None
) -> oci.Image:
    """The image that `fn` runs as: its own image, the agent, its spec and its script. Ready to push; nothing is sent.

    The same definition, image and scar give the same digest. `keychain` answers who we are to the registry that the
    user's image comes from; None: what `docker login` wrote.
    """
    from scar.package.agent import agent_layer
    from scar.package.derive import derive
    from scar.package.progress import ignore
    from scar.package.source import open_image
    from scar.package.spec import spec_of

    settings = fn.lambda_
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
    )
    return derive(base, agent, spec=spec_of(fn), script=script)


def _script(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScarError(f"the init script cannot be read: {error.strerror}", where=str(path)) from error
