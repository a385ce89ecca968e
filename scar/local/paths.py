"""Object keys that hold a newline: moto's routes use `.`, which stops at one, and answer 404."""

from __future__ import annotations

from typing import Any

from moto.moto_server.utilities import RegexConverter
from werkzeug.routing import BaseConverter


def install() -> None:
    """Hook RegexConverter; before the first route is made."""
    RegexConverter.__init__ = _init


def _init(self: Any, url_map: Any, *items: Any) -> None:
    BaseConverter.__init__(self, url_map)
    self.regex = f"(?s:{items[0]})"
