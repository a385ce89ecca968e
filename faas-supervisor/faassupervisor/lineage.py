"""Which functions made a file what it is, and whether one of them may run on it: what stops a loop that no plan could see.

What is published carries the functions that its content has been through (`contract.LINEAGE`), this one last. A function refuses what
itself has had a hand in. So a loop of any length, through Lambda, Batch or another storage, ends when it first comes round; a chain, a
second event of the same object, and a file that somebody uploads again are none of its business. See docs/decisions/0030.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from faassupervisor.contract import LINEAGE, MOST_HOPS
from faassupervisor.errors import LoopError

# Names and values of an object's own metadata together. Source: AmazonS3/latest/userguide/UsingMetadata (2 KB)
_METADATA_BYTES: Final = 2048


def of_metadata(found: Mapping[str, str]) -> tuple[str, ...]:
    """The functions that an object's metadata names, oldest first."""
    text = next((value for name, value in found.items() if name.lower() == LINEAGE), "")
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def metadata(lineage: Sequence[str]) -> dict[str, str]:
    """As an object carries it."""
    return {LINEAGE: ",".join(lineage)}


def through(lineage: Sequence[str], function: str, uri: str) -> tuple[str, ...]:
    """What the outputs of `function` have been through when its input, at `uri`, has been through `lineage`.

    Raises LoopError when the function is among those, and when there are more of them than is any good.
    """
    longer = (*lineage, function)
    shown = " → ".join(longer)
    if function in lineage:
        raise LoopError(
            f"{uri} is itself made of an output of this function: {shown} is a loop, and it is stopped here. Let outputs go where nothing "
            "starts the function; to process a result again, upload it again (`scar get`, `scar put`)"
        )
    if len(longer) > MOST_HOPS or len(LINEAGE) + len(metadata(longer)[LINEAGE].encode()) > _METADATA_BYTES:
        raise LoopError(
            f"{uri} has been through {len(lineage)} functions one after the other, which is the most: {shown}"
        )
    return longer
