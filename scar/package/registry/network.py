"""How registries are reached from this machine: proxies, certificates, and the files in which logins are kept.

`network_of` is pure; `network_here` is the one place of this room that reads the process environment. It is for the doors of the
room (where an image is opened, where an account's registry is), which take a Network as well; nothing below them calls it.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import urllib3

from scar.errors import ScarError

_CERTS_D: Final = ("/etc/docker/certs.d", "/etc/containers/certs.d")
_CA_VARIABLES: Final = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Network:
    """`https_proxy` may hold a password. `certs_directories` hold one folder for each registry, as Docker's certs.d does.

    `login_files` are read in order: the first that knows a registry answers.
    """

    https_proxy: str | None = field(default=None, repr=False)
    no_proxy: str = ""
    ca_files: tuple[Path, ...] = ()
    certs_directories: tuple[Path, ...] = ()
    login_files: tuple[Path, ...] = ()


def network_of(environ: Mapping[str, str], home: Path | None) -> Network:
    """What the environment and a home directory say, by the names that Docker, podman, curl and the AWS CLI go by. Pure.

    Plain http is used on this machine only and never by a proxy, so HTTP_PROXY does not matter.
    """
    return Network(
        https_proxy=environ.get("https_proxy") or environ.get("HTTPS_PROXY") or None,
        no_proxy=environ.get("no_proxy") or environ.get("NO_PROXY") or "",
        ca_files=tuple(Path(environ[name]) for name in _CA_VARIABLES if environ.get(name)),
        certs_directories=(
            *((home / ".config" / "containers" / "certs.d",) if home else ()),
            *map(Path, _CERTS_D),
        ),
        login_files=tuple(_login_files(environ, home)),
    )


def network_here() -> Network:
    """What this process's environment and its user's home directory say."""
    try:
        home: Path | None = Path.home()
    except RuntimeError:  # a user without a home directory has never logged in
        home = None
    return network_of(os.environ, home)


def _login_files(environ: Mapping[str, str], home: Path | None) -> list[Path]:
    """podman's REGISTRY_AUTH_FILE was set on purpose, so it comes first; then Docker's file, then podman's usual ones."""
    files = []
    if said := environ.get("REGISTRY_AUTH_FILE"):
        files.append(Path(said))
    if said := environ.get("DOCKER_CONFIG"):
        files.append(Path(said) / "config.json")
    elif home:
        files.append(home / ".docker" / "config.json")
    if said := environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(said) / "containers" / "auth.json")
    if said := environ.get("XDG_CONFIG_HOME"):
        files.append(Path(said) / "containers" / "auth.json")
    elif home:
        files.append(home / ".config" / "containers" / "auth.json")
    return files


def proxy_for(network: Network, url: str) -> str | None:
    """The proxy for an address, None: straight there. This machine is never reached by a proxy."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if network.https_proxy is None or parts.scheme != "https" or is_loopback(host):
        return None
    if any(_is_excepted(host, parts.port or 443, item) for item in network.no_proxy.split(",")):
        return None
    return network.https_proxy if "://" in network.https_proxy else f"http://{network.https_proxy}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_excepted(host: str, port: int, item: str) -> bool:
    """One entry of NO_PROXY: `*`, a host with or without a port, a domain, an address or a network of addresses."""
    item = item.strip().lower()
    if not item:
        return False
    if item == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(item, strict=False)
    except ValueError:
        pass  # one of the two is a name
    name, colon, wanted_port = item.rpartition(":")
    if colon and wanted_port.isdigit():
        if int(wanted_port) != port:
            return False
        item = name
    domain = item.removeprefix("*").removeprefix(".")
    return bool(domain) and (host == domain or host.endswith("." + domain))


class Connections:
    """Pooled connections for one registry and whatever it sends us to (its token server, its storage)."""

    def __init__(self, network: Network, registry_host: str) -> None:
        self._network, self._registry_host = network, registry_host
        self._pools: dict[tuple[str, str | None, bool], urllib3.PoolManager] = {}

    def to(self, url: str) -> urllib3.PoolManager:
        """Raises ScarError for a proxy or a certificate file that cannot be used."""
        parts = urlsplit(url)
        is_registry = parts.netloc == self._registry_host
        key = (parts.scheme, proxy_for(self._network, url), is_registry)
        if key not in self._pools:  # two threads may both make one: the first to finish serves
            self._pools.setdefault(key, self._pool(parts.scheme, key[1], is_registry=is_registry))
        return self._pools[key]

    def _pool(self, scheme: str, proxy: str | None, *, is_registry: bool) -> urllib3.PoolManager:
        if scheme == "http":
            return urllib3.PoolManager(maxsize=_CONNECTIONS)
        context = tls_context(self._network, self._registry_host if is_registry else None)
        if proxy is None:
            return urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context)
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ScarError(
                f"the proxy {parts.scheme}://{parts.hostname or ''} cannot be used",
                where="HTTPS_PROXY",
                fix="Name it as http://HOST:PORT or https://HOST:PORT.",
            )
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        return urllib3.ProxyManager(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),  # no secret where a message may quote it
            proxy_headers=urllib3.make_headers(proxy_basic_auth=login),
            proxy_ssl_context=context,
            maxsize=_CONNECTIONS,
            ssl_context=context,
        )


def registry_certificates(network: Network, host: str) -> list[Path]:
    """The folders that hold certificates for a registry."""
    return [folder for directory in network.certs_directories if (folder := directory / host).is_dir()]


def tls_context(network: Network, registry_host: str | None) -> ssl.SSLContext:
    """Trusts this system's authorities, botocore's, and those that the user has named; shows what client certificate there is."""
    context = ssl.create_default_context()
    # An interpreter that was built elsewhere may not find this system's authorities; botocore brings its own list.
    botocore = importlib.util.find_spec("botocore")
    if botocore is not None and botocore.origin is not None:
        context.load_verify_locations(cafile=Path(botocore.origin).with_name("cacert.pem"))
    folders = registry_certificates(network, registry_host) if registry_host else []
    authorities = [*network.ca_files, *(path for folder in folders for path in sorted(folder.glob("*.crt")))]
    for path in authorities:
        with _usable(path):
            context.load_verify_locations(cafile=path)
    for path in (path for folder in folders for path in sorted(folder.glob("*.cert"))):
        with _usable(path):
            context.load_cert_chain(path, path.with_suffix(".key"))
    return context


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ScarError(f"a certificate cannot be used: {error}", where=str(path)) from error
