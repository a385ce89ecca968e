"""Images of registries other than the local ECR."""

from __future__ import annotations

from pathlib import Path

from scar.errors import ScarError
from scar.local.registry import StoredImage


def fetch(name: str, folder: Path) -> StoredImage:
    """Raises ScarError."""
    raise ScarError(f"{name} is not in the local ECR")
