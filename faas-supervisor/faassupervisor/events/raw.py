"""Everything that no other parser knows: the payload is the input file. Last in the table, it never declines."""

from __future__ import annotations

from collections.abc import Sequence

from faassupervisor.events.items import Known, Payload, RawItem


def parse(payload: Payload, _known: Known) -> Sequence[RawItem]:
    """One run on the payload itself."""
    return (RawItem(event=payload.body),)
