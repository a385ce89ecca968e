"""How is moto's state turned into bytes and back? Pickle, with live singletons by name and without what cannot be kept.

Read back only from our own files (0600 in a 0700 folder, checksummed), and then only classes of moto and plain data types.
"""

from __future__ import annotations

import enum
import importlib
import io
import pickle
import sys
import tempfile
import threading
import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

import moto
from moto.core.base_backend import BackendDict, BaseBackend

from scar.local.bodies import Bodies, Body

WRITTEN_BY: Final = f"moto {moto.__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"

_PLAIN_MODULES: Final = frozenset(
    {
        "collections", "copyreg", "datetime", "decimal", "enum", "ipaddress", "pathlib", "random", "re",
        "requests.structures", "uuid", "zoneinfo",
    }
)  # fmt: skip
_PLAIN_BUILTINS: Final = frozenset(
    {
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
        "slice", "str", "tuple",
    }
)  # fmt: skip
_LOCK_TYPES: Final[dict[type, Callable[[], Any]]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.Event: threading.Event,
    threading.Condition: threading.Condition,
}


class Pickler(pickle.Pickler):
    """Writes moto's objects. `own` is the backend whose state is being written: it is content, every other backend a name."""

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Body):
            return ("body", value.name, value.size, value.md5)
        if isinstance(value, BackendDict):
            return ("backends", *_name_of(value))
        if isinstance(value, BaseBackend):
            return ("backend", *_place_of(value))
        return None

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind in _LOCK_TYPES:
            return (_fresh, (kind.__name__,))
        if isinstance(value, enum.Enum) and kind.__module__.startswith("moto."):
            return (_member, (kind, value.value))  # some Pythons (3.11.2) would write a call of getattr instead
        if isinstance(value, weakref.WeakValueDictionary):
            return (_weak, (dict(value),))
        if isinstance(value, tempfile.SpooledTemporaryFile):
            return (_fresh, ("nothing",))
        if isinstance(value, types.FunctionType) and "<locals>" in value.__qualname__:
            return (_function, (value.__module__, value.__qualname__, value.__code__.co_firstlineno))
        if isinstance(value, types.MethodType):
            return (_bound, (value.__self__, value.__name__))
        if kind.__module__.startswith("moto.") and isinstance(value, defaultdict):
            return (_bare, (kind, value.default_factory), vars(value) or None, None, iter(value.items()))
        if kind.__module__.startswith("cryptography.") and hasattr(value, "private_bytes"):
            return (_private_key, (_as_pem(value),))
        if _is_left_out(value):
            return (_fresh, ("nothing",))
        named = value if isinstance(value, type | types.FunctionType) else kind
        if not _is_allowed(named.__module__, named.__qualname__):
            # said now, to whoever made the change: a state that cannot be read back would be found out at the next start
            raise pickle.PicklingError(f"{named.__module__}.{named.__qualname__} has no place in the state")
        return NotImplemented


def _is_left_out(value: Any) -> bool:
    """Docker clients and the like: handles of a process that is gone when the state is read back."""
    module = type(value).__module__
    return module.startswith(("docker.", "_io", "socket", "concurrent.futures"))


def dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 5).dump(value)
    return buffer.getvalue()


class Unpickler(pickle.Unpickler):
    def __init__(self, source: io.BytesIO, bodies: Bodies | None) -> None:
        super().__init__(source)
        self._bodies = bodies

    def persistent_load(self, name: Any) -> Any:
        kind, *rest = name
        if kind == "body":
            if self._bodies is None:
                raise pickle.UnpicklingError("an object's body where none is expected")
            return self._bodies.at(*rest)
        module, attribute, *place = rest
        backends = getattr(importlib.import_module(_moto_only(module)), attribute)
        if kind == "backends":
            return backends
        account, region = place
        return backends[account][region]

    def find_class(self, module: str, name: str) -> Any:
        if not _is_allowed(module, name):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in the state")
        return super().find_class(module, name)


def loads(payload: bytes, bodies: Bodies | None = None) -> Any:
    return Unpickler(io.BytesIO(payload), bodies).load()


def _is_allowed(module: str, name: str) -> bool:
    if module == "builtins":
        return name in _PLAIN_BUILTINS
    return module.startswith("moto.") or module == __name__ or module in _PLAIN_MODULES


def _moto_only(module: str) -> str:
    if not module.startswith("moto."):
        raise pickle.UnpicklingError(f"{module} is no backend of moto")
    return module


def _fresh(kind: str) -> Any:
    """A new lock in place of the one that was held by a process long gone; None for what cannot come back."""
    makers = {type_.__name__: make for type_, make in _LOCK_TYPES.items()}
    return makers[kind]() if kind in makers else None


def _member(kind: type[enum.Enum], value: Any) -> Any:
    return kind(value)


def _bound(owner: Any, name: str) -> Any:
    if not type(owner).__module__.startswith("moto."):
        raise pickle.UnpicklingError(f"{type(owner).__name__} is no class of moto")
    return getattr(owner, name)


def _bare(kind: type[defaultdict[Any, Any]], default_factory: Any) -> Any:
    """A defaultdict of moto's own class, whose __init__ takes what only moto knows."""
    made = kind.__new__(kind)
    made.default_factory = default_factory
    return made


def _as_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def _private_key(pem: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem, None)


def _weak(values: dict[Any, Any]) -> Any:
    """The values live in the same state, held by what owns them."""
    return weakref.WeakValueDictionary(values)


def _function(module: str, qualified_name: str, first_line: int) -> Any:
    """A function that moto defined inside another (`defaultdict(lambda: …)`), found again by name and line. It must close over nothing."""
    for code in _codes(importlib.import_module(_moto_only(module))):
        if code.co_qualname == qualified_name and code.co_firstlineno == first_line and not code.co_freevars:
            return types.FunctionType(code, vars(sys.modules[module]), qualified_name.rpartition(".")[2])
    raise pickle.UnpicklingError(f"{module} has no {qualified_name} any more")


def _codes(module: types.ModuleType) -> Iterator[types.CodeType]:
    waiting: list[Any] = [
        value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__
    ]
    while waiting:
        value = waiting.pop()
        if isinstance(value, type):
            waiting += [getattr(member, "__func__", getattr(member, "fget", member)) for member in vars(value).values()]
        elif isinstance(value, types.FunctionType):
            waiting.append(value.__code__)
        elif isinstance(value, types.CodeType):
            yield value
            waiting += [constant for constant in value.co_consts if isinstance(constant, types.CodeType)]


def _name_of(backends: BackendDict[Any]) -> tuple[str, str]:
    module = sys.modules[backends.backend.__module__]
    for name, value in vars(module).items():
        if value is backends:
            return module.__name__, name
    raise pickle.PicklingError(f"no name leads to the backends of {backends.service_name}")


def _place_of(backend: BaseBackend) -> tuple[str, str, str, str]:
    module = sys.modules[type(backend).__module__]
    for name, value in vars(module).items():
        if isinstance(value, BackendDict) and value.backend is type(backend):
            for account, region, candidate in value.iter_backends():
                if candidate is backend:
                    return module.__name__, name, account, region
    raise pickle.PicklingError(f"no name leads to a backend of {type(backend).__name__}")
