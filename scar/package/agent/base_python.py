"""A program for the interpreter that is bundled (run, not imported, but for its two lists): says what it is made of, and compiles for it.

    python -I -S base_python.py facts     one JSON document on standard output
    python -I -S base_python.py compile   reads a JSON list of [source, name in tracebacks]; answers, for each in order,
                                          four bytes of length and that many bytes of .pyc

A process of its own because only really loading a library tells where it lies, and because marshal's output depends on
which objects are alive: here they are the same every time, so the same sources give the same bytes.
"""

import gc
import importlib
import importlib.util
import json
import marshal
import os
import sys
import sysconfig
from pathlib import Path

# Loaded by the C library or by libraries while running, so no list of needed libraries names them.
OPENED_LATER = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
# What the standard library asks its build settings for while running; the rest speaks of the machine that built it.
BUILD_SETTINGS = ("EXT_SUFFIX", "LDVERSION", "MULTIARCH", "Py_DEBUG", "Py_ENABLE_SHARED", "Py_GIL_DISABLED", "SIZEOF_VOID_P",
                  "SOABI", "TZPATH", "VERSION")  # fmt: skip
UNCHECKED_HASH = 1  # PEP 552: the flags word of a .pyc that is never compared with its source


def facts() -> None:
    refused = set(sys.argv[2:])
    dynload = next((Path(entry) for entry in sys.path if entry.endswith("lib-dynload")), None)
    extensions = sorted(dynload.glob("*.so")) if dynload is not None else []
    wanted = [path for path in extensions if path.name.partition(".")[0] not in refused]
    loaded = [path for path in wanted if _imports(path.name.partition(".")[0])]
    opened = [name for name in OPENED_LATER if _opens(name)]
    settings = {name: value for name in BUILD_SETTINGS if (value := sysconfig.get_config_var(name)) is not None}
    document = {
        "version": sys.version,
        "minor": list(sys.version_info[:2]),
        "platlibdir": sys.platlibdir,
        "binary": str(Path("/proc/self/exe").readlink()),
        "settings_module": next((name for name in sys.modules if name.startswith("_sysconfigdata")), None),
        "settings": settings,
        "stdlib": str(Path(os.__file__).parent),
        "extensions": [str(path) for path in loaded],
        "opened_later": opened,
        "mapped": _mapped(),
    }
    sys.stdout.write(json.dumps(document))


def compile_all() -> None:
    work = json.load(sys.stdin)
    gc.disable()
    out = sys.stdout.buffer
    for path, name in work:
        source = Path(path).read_bytes()
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
        pyc = b"".join(
            (
                importlib.util.MAGIC_NUMBER,
                UNCHECKED_HASH.to_bytes(4, "little"),
                importlib.util.source_hash(source),
                marshal.dumps(code),
            )
        )
        out.write(len(pyc).to_bytes(4, "little") + pyc)


def _imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:  # its library is not installed here: this Python works without it, so will the bundle
        return False
    return True


def _opens(library: str) -> bool:
    try:
        import ctypes

        ctypes.CDLL(library)
    except (ImportError, OSError):
        return False
    return True


def _mapped() -> list[str]:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/") and len(line.split(maxsplit=5)) == 6}
    return sorted(path for path in paths if ".so" in Path(path).name)


if __name__ == "__main__":
    {"facts": facts, "compile": compile_all}[sys.argv[1]]()
