"""What kind of content a file's name promises, alike in storage and in answers over HTTP."""

from __future__ import annotations

import mimetypes
from typing import Final

OCTETS: Final = "application/octet-stream"
_MIME: Final = mimetypes.MimeTypes()  # the built-in table only: the image's /etc/mime.types must not change an answer


def content_type(name: str) -> str:
    """Guessed from the name by Python's built-in table; compressed or unknown is plain bytes."""
    kind, encoding = _MIME.guess_type(name.rsplit("/", 1)[-1], strict=False)
    return kind if kind and not encoding else OCTETS
