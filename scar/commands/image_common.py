"""What the verbs of `scar image` have in common: making a function's image, logging in to registries, refusing what cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scar.commands.common import connect, settings_of
from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.fdl.model import Function
    from scar.package.oci import Image
    from scar.package.registry.credentials import Credentials, Keychain


def derived_image(context: Context, fn: Function, keychain: LazyKeychain) -> Image:
    from scar.package import function_image

    settings = settings_of(context, (fn,))
    preparing = context.report.progress(f"preparing the image of {fn.name}")
    with keychain.explained(fn.lambda_.container.image), preparing as progress:
        return function_image(
            fn, cache=settings.cache, tell=progress, keychain=keychain, docker_host=settings.docker_host
        )


class LazyKeychain:
    """What `docker login` wrote; for private ECR the account, which is reached only when such a name comes up."""

    def __init__(self, context: Context, functions: tuple[Function, ...], aws: Aws | None = None) -> None:
        self._context, self._functions, self._aws = context, functions, aws
        self._of_account: Keychain | None = None

    def __call__(self, host: str) -> Credentials | None:
        from scar.package.source import docker_login

        if "ecr" not in host:
            return docker_login()(host)
        from scar.package.ecr import ecr_host, ecr_keychain

        if ecr_host(host) is None:
            return docker_login()(host)
        if self._aws is None:
            self._aws, _ = connect(self._context, self._functions)
        self._of_account = self._of_account or ecr_keychain(self._aws)
        return self._of_account(host)

    @contextmanager
    def explained(self, image: str | None) -> Iterator[None]:
        """Of an image that the account's ECR does not have, say whether it would fetch it."""
        try:
            yield
        except NotFoundError:
            if self._aws is None:
                raise
            from scar.package.ecr import absence_explained

            with absence_explained(self._aws, image):
                raise


def refuse_password(name: str) -> None:
    """Said without repeating it: it would be in a log."""
    if "@" in name and "@sha256:" not in name:
        raise UsageError(
            "the name of an image holds an `@` that no digest follows",
            fix="Write name@sha256:…; a user and a password belong into: docker login REGISTRY",
        )


def expect_only_one(functions: Sequence[Function], path: Path) -> None:
    if len(functions) > 1:
        names = ", ".join(fn.name for fn in functions)
        raise UsageError(
            f"--to takes one image, and {path} defines several functions", fix=f"Name one with -n: {names}."
        )
