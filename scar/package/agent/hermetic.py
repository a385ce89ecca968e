"""Copies of libraries that do not look for their settings in the user's image.

    the loader      reads /etc/ld.so.preload, and would load the image's libraries into the agent
    libcrypto       reads openssl.cnf, where the image may have another choice of algorithms, or modules that we do not have

No variable and no option turns these off for certain, so the paths themselves are replaced, byte for byte, by ones that no
image has. Where libcrypto looks for certificate authorities stays as it is.
"""

from __future__ import annotations

import re
from typing import Final

_PRELOAD: Final = b"/etc/ld.so.preload"
_NOWHERE: Final = b"/nonexistent"  # Debian policy 9.2.3: a path that is promised not to be there
# OpenSSL 3, crypto/x509/x509_def.c: X509_CERT_FILE is OPENSSLDIR "/cert.pem"; openssl.cnf is looked for in OPENSSLDIR.
_OPENSSL_FOLDER: Final = re.compile(rb"\0(/[^\0]{1,4000})/cert\.pem\0")


def loader(content: bytes) -> bytes:
    """The loader, deaf to what the image would have it load before all else."""
    return content.replace(_PRELOAD + b"\0", _nowhere(_PRELOAD) + b"\0")


def library(content: bytes) -> bytes:
    """Any library; libcrypto without its configuration file."""
    for folder in set(_OPENSSL_FOLDER.findall(content)):
        content = content.replace(b"\0" + folder + b"\0", b"\0" + _nowhere(folder) + b"\0")
    return content


def _nowhere(path: bytes) -> bytes:
    """A path of the same length under which nothing is found."""
    return (_NOWHERE + b"/" * len(path))[: len(path)]
