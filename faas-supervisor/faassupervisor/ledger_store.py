"""What does the ledger need of an object store? Reads that are up to date, and writes with a condition; nothing else."""

from __future__ import annotations

from typing import Protocol


class Taken(Exception):  # noqa: N818 - the agreed word of the seam; control flow, not an error
    """A conditional write lost: the object exists already, has changed, or is gone."""


class Ambiguous(Exception):  # noqa: N818
    """No answer came: the request may or may not have been carried out."""


class Store(Protocol):
    """The objects of one function's ledger.

    1. `read` answers an object's body and entity tag as they are now (not an older state), or None when there is none.
    2. `create` stores the object only if there is none, and answers its entity tag; else Taken. Of several at once one wins.
    3. `replace` stores the object only if its entity tag is `etag`, and answers the new one; else Taken. Gone is Taken too.
       It may also be Taken while another write is under way that then fails (S3's 409 ConditionalRequestConflict).
    4. Each may raise Ambiguous: then it may have been carried out, may be carried out still, or never. It is asked again, with the same body.
    5. Anything else that goes wrong (no permission, no bucket) is an AgentError in plain words.
    6. An implementation that tries a write again by itself may answer Taken for a write of its own. The ledger finds that out.
    """

    def read(self, run: str) -> tuple[bytes, str] | None: ...
    def create(self, run: str, body: bytes) -> str: ...
    def replace(self, run: str, body: bytes, etag: str) -> str: ...
