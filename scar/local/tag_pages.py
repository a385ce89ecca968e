"""How many functions does one page of GetResources tell of? On AWS as many as were asked for; moto stops at a hundred tags, asked or not.

Source: resourcegroupstagging/latest/APIReference/API_GetResources: TagsPerPage is a limit that a request may set, and ResourcesPerPage the one to use.
"""

from __future__ import annotations

import functools
from typing import Any, Final

_UNASKED: Final = 100  # what moto takes when a request says nothing, and the least that one may say


def install() -> None:
    """Hook GetResources; once moto has loaded the service, which takes most of the others along."""
    from moto.resourcegroupstaggingapi.models import ResourceGroupsTaggingAPIBackend

    original = ResourceGroupsTaggingAPIBackend.get_resources

    @functools.wraps(original)
    def get_resources(self: Any, *, tags_per_page: int = _UNASKED, **asked: Any) -> Any:
        most = 1 << 30 if tags_per_page == _UNASKED else tags_per_page
        return original(self, tags_per_page=most, **asked)

    ResourceGroupsTaggingAPIBackend.get_resources = get_resources
