"""What becomes of a request that is refused because the role's credentials have expired? They are fetched anew, and it is sent once more.

botocore renews a role's credentials before the moment that was told with them. A job runs for hours, and a machine whose clock is slow,
or credentials that end sooner than was told, would fail it at its last step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from botocore.credentials import Credentials

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
_ONCE: Final = "scar_renewed"


class RoleCredentials(Credentials):
    """A role's credentials, wherever they come from: `load` asks for them. `renew` forgets those that are held."""

    def __init__(self, load: Callable[[], Credentials]) -> None:
        self._load, self._held = load, load()
        now = self._held.get_frozen_credentials()
        super().__init__(now.access_key or "", now.secret_key or "", now.token, method=self._held.method)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self._held.get_frozen_credentials()

    def renew(self) -> None:
        self._held = self._load()


class Renewing:
    """A session's provider of credentials, in place of `found`, which is one."""

    def __init__(self, session: Session, found: Any) -> None:
        self._found = found
        self._made: RoleCredentials | None = None
        again: Any = self._again  # an answer is heeded, though botocore's stubs know of none
        session.register("needs-retry", again)

    def load_credentials(self) -> Credentials | None:
        first: Credentials | None = self._found.load_credentials()
        if first is None:
            return None
        loaded = [first]
        self._made = RoleCredentials(lambda: loaded.pop() if loaded else self._found.load_credentials())
        return self._made

    def _again(self, response: Any, request_dict: dict[str, Any], **_: object) -> float | None:
        """Seconds until the request is signed and sent again; None leaves that to botocore."""
        if response is None or self._made is None:
            return None
        code = response[1].get("Error", {}).get("Code", "")
        if code not in _EXPIRED or _ONCE in request_dict["context"]:
            return None
        request_dict["context"][_ONCE] = True
        self._made.renew()
        return 0.0
