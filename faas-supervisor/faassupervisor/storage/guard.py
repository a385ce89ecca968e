"""Connections to storage that somebody names by its address: none leads into a private network unless that is meant.

The address that is looked at is the one that the socket is connected to, so a name that means something else the second time it is asked
for gains nothing. Where a proxy is set, it is the proxy that connects, and its rules hold.
"""

from __future__ import annotations

import ipaddress
import socket
import warnings
from typing import Any, Final

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSRequest,
    AWSResponse,
)
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import InsecureRequestWarning

from faassupervisor.aws import Aws
from faassupervisor.contract import Provider
from faassupervisor.storage import ProviderError

CONNECT_S: Final = 10
READ_S: Final = 60
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the address that is meant


class ForbiddenAddressError(ProviderError):
    """The storage's name means an address that its provider does not allow."""


def is_public(address: str) -> bool:
    """Whether this is an address of the open internet, also when it is an IPv4 address in IPv6's clothes."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    return found.is_global and not found.is_multicast


class _Looked:
    """Mixed into a connection of urllib3: looks before a byte is sent."""

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        address = connected.getpeername()[0]
        if is_public(address):
            return connected
        connected.close()
        host: str = self.host  # type: ignore[attr-defined]
        raise ForbiddenAddressError(
            f"{host} is {address}, an address of a private network, which only a provider with `private: true` may have"
        )


class _Http(_Looked, AWSHTTPConnection):  # type: ignore[misc]  # botocore's bases disagree, says mypy
    pass


class _Https(_Looked, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _HttpPool(AWSHTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _Https


class Session(URLLib3Session):
    """botocore's own way to send requests, for one provider's endpoint. It follows no redirect, and raises ForbiddenAddressError."""

    def __init__(self, aws: Aws, provider: Provider, endpoint: str, *, connections: int = 10) -> None:
        proxies = get_environ_proxies(endpoint)
        patience: Any = (CONNECT_S, READ_S)
        if not provider.verify:
            warnings.simplefilter("ignore", InsecureRequestWarning)  # the agent's log says it, for each record
        trusted: Any = (aws.certificates or True) if provider.verify else False
        super().__init__(verify=trusted, proxies=proxies, timeout=patience, max_pool_connections=connections)
        if not provider.private and not proxies:
            self._pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
            manager: Any = vars(self)["_manager"]
            manager.pool_classes_by_scheme = self._pool_classes_by_scheme

    def send(self, request: AWSRequest | AWSPreparedRequest) -> AWSResponse:
        try:
            return super().send(request)
        except HTTPClientError as error:
            inner = error.kwargs.get("error")
            if isinstance(inner, ForbiddenAddressError):
                raise inner from None
            raise
