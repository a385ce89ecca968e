"""What a resource is: the one protocol between what we want, what AWS has, and the plan between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

from scar.aws.clients import Aws


class Id(NamedTuple):
    """Names one AWS object within an account and region: `Id("function", "grayify")`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Resource(Protocol):
    """One AWS object that SCAR owns: what it should be, and how to make it so.

    An implementer promises:
    1. it is a frozen dataclass that holds managed fields only; equality means "nothing to do";
    2. `read` only reads, and answers a value of the same class (None: absent);
    3. `create`, `update` and `delete` may be killed at any point and called again: each finishes what the last left;
    4. `delete` of something absent succeeds; nothing that is not ours, and no user data, is ever deleted;
    5. it never prints, waits without a bound, or looks at another resource's class.
    """

    @property
    def id(self) -> Id: ...

    @property
    def needs(self) -> Sequence[Id]:
        """What must exist before this one, and go after it."""
        ...

    def read(self, aws: Aws) -> Self | None: ...

    def create(self, aws: Aws) -> None: ...

    def update(self, aws: Aws, actual: Self) -> None: ...

    def delete(self, aws: Aws) -> None: ...
