"""Whom does the image's USER mean? Answered from the image's own files, as container engines do it.

The derived image starts as root where nobody says otherwise, because the agent's own folders must be readable to it; the user's
process then becomes whom the image named. In Lambda the agent is never root, and USER means nothing there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faassupervisor.contract import AGENT_ROOT
from faassupervisor.errors import CannotStartError

_NOT_EXECUTABLE: Final = 126
_ETC: Final = Path("/etc")
_UID_MAP: Final = Path("/proc/self/uid_map")  # user_namespaces(7): first inside, first outside, how many


@dataclass(frozen=True, slots=True)
class Identity:
    """`home` is '' where the image's files name none."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""

    def may_write(self, folder: str) -> bool:
        """Whether a folder is there and this user may make files in it."""
        try:
            status = Path(folder).stat()
        except OSError:
            return False
        if self.uid in {0, status.st_uid}:
            return self.uid == 0 or bool(status.st_mode & 0o200)
        if status.st_gid in {self.gid, *self.groups}:
            return bool(status.st_mode & 0o020)
        return bool(status.st_mode & 0o002)


def to_become(user: str) -> Identity | None:
    """Whom the user's process has to become, None when it stays who the agent is: not root, not in the image, or root that cannot become anybody else."""
    if not user or os.geteuid() != 0 or not Path(__file__).is_relative_to(AGENT_ROOT):
        return None
    identity = identity_of(user, _lines(_ETC / "passwd"), _lines(_ETC / "group"))
    return identity if (identity.uid, identity.gid) != (0, 0) and not _is_alone() else None


def _is_alone() -> bool:
    """Whether root is the only user there is: in a user namespace of one, which is what a local sandbox without root's rights has."""
    try:
        return [line.split()[2] for line in _UID_MAP.read_text().splitlines()] == ["1"]
    except (OSError, IndexError):
        return False


def identity_of(user: str, passwd: Iterable[str], group: Iterable[str]) -> Identity:
    """`USER[:GROUP]`, each a name or a number (image-spec, config). A number need not be in the files, a name must.

    Without a group, it is the one of /etc/passwd, or 0; the supplementary ones are those that list the user.
    """
    name, _, group_name = user.partition(":")
    groups = [words for words in _fields(group, 4) if words[2].isdigit()]
    known = next((words for words in _fields(passwd, 7) if name in {words[0], words[2]}), None)
    if known is None and not name.isdigit():
        raise CannotStartError(f"the image's USER {name!a} is not in its /etc/passwd", exit_code=_NOT_EXECUTABLE)
    uid = int(name) if known is None else int(known[2])
    home = "" if known is None else known[5]
    if group_name:
        gid = next((int(words[2]) for words in groups if group_name in {words[0], words[2]}), None)
        if gid is None and not group_name.isdigit():
            raise CannotStartError(
                f"the group {group_name!a} of the image's USER is not in its /etc/group", exit_code=_NOT_EXECUTABLE
            )
        return Identity(uid, int(group_name) if gid is None else gid, (), home)
    if known is None:
        return Identity(uid, 0)
    return Identity(
        uid, int(known[3]), tuple(int(words[2]) for words in groups if known[0] in words[3].split(",")), home
    )


def give(folder: Path, identity: Identity) -> None:
    """Make a tree of our own, and what is in it, the user's."""
    for parent, folders, files in os.walk(folder):
        for path in (parent, *(f"{parent}/{name}" for name in (*folders, *files))):
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)


def _fields(lines: Iterable[str], count: int) -> Iterator[list[str]]:
    for line in lines:
        words = line.rstrip("\n").split(":")
        if len(words) == count and words[2].isdigit() and (count < 7 or words[3].isdigit()):
            yield words


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
