"""Which calls are made to AWS, and how does each end? Told in one line a call, with `parameters` also what was sent; secrets are masked.

What is masked: whatever is called like a secret, values of environments, bodies, and everything in a call that signs in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from scar.aws.clients import Aws

MASK: Final = "***"
_SECRET: Final = re.compile(
    r"pass|secret|token|credential|authorization|signature|access_?key|private|apikey|api_key", re.I
)
_HARMLESS: Final = frozenset({"nexttoken", "continuationtoken", "startingtoken", "clienttoken", "clientrequesttoken"})
_WHOLE: Final = frozenset({"variables", "environment", "environmentvariables"})  # values are the user's
_BODIES: Final = frozenset({"body", "payload", "zipfile", "layerpartblob", "value", "secretstring", "policydocument"})
_SHOWN: Final = 200


def tell_calls(aws: Aws, tell: Callable[[str], None], *, parameters: bool) -> None:
    """Tell every call of clients that are made from now on."""

    def before(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["scar_asked"] = masked(params)
        context["scar_began_s"] = time.monotonic()

    def after(http_response: Any, model: Any, context: Mapping[str, Any], **_: Any) -> None:
        tell(_line(model, f"{http_response.status_code}", context, parameters=parameters))

    def failed(exception: Exception, context: Mapping[str, Any], **more: Any) -> None:
        what = more["event_name"].removeprefix("after-call-error.")
        tell(f"aws {what}: {type(exception).__name__}{_took(context)}{_asked(context, parameters=parameters)}")

    aws.hook("provide-client-params", before)
    aws.hook("after-call", after)
    aws.hook("after-call-error", failed)


def masked(value: Any, name: str = "") -> Any:
    """The same document with what may be secret replaced."""
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in _BODIES or (plain not in _HARMLESS and _SECRET.search(name)):
        return MASK
    if isinstance(value, Mapping):
        if plain in _WHOLE:
            return dict.fromkeys(value, MASK)
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [MASK if plain in _WHOLE else masked(item) for item in value]
    if isinstance(value, bytes | bytearray) or hasattr(value, "read"):
        return MASK
    return value


def _line(model: Any, status: str, context: Mapping[str, Any], *, parameters: bool) -> str:
    service = model.service_model.service_id.hyphenize()
    return f"aws {service}:{model.name} {status}{_took(context)}{_asked(context, parameters=parameters)}"


def _took(context: Mapping[str, Any]) -> str:
    began_s = context.get("scar_began_s")
    return "" if began_s is None else f" {time.monotonic() - began_s:.3f} s"


def _asked(context: Mapping[str, Any], *, parameters: bool) -> str:
    if not parameters or "scar_asked" not in context:
        return ""
    text = str(context["scar_asked"])
    return f" {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
