"""httpx as the client uses it: imported without its command line, its connections opened.

That command line comes along wherever click and rich are installed, as they are here for typer's
sake, and takes longer than all the rest.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tci_kernel.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator
    from pathlib import Path

    from pydantic import SecretStr

_COMMAND_LINE = "httpx._main"

if "httpx" in sys.modules:
    import httpx
else:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # makes its import fail
    import httpx

    del sys.modules[_COMMAND_LINE]

__all__ = ["connections", "httpx", "slices"]

#: Bytes of a body that are handed to httpx at a time.
_SLICE = 2**16


def connections(
    url: str,
    key: SecretStr | None,
    socket: Path | None,
    wire: httpx.AsyncBaseTransport | None,
) -> httpx.AsyncClient:
    """Return a pool of connections to a service, over a Unix socket if one is given.

    `wire` replaces the network.
    """
    address = httpx.URL(url)
    limits = httpx.Limits(keepalive_expiry=30.0)
    if wire is None and socket is not None:
        wire = httpx.AsyncHTTPTransport(uds=str(socket), limits=limits, verify=False)
    return httpx.AsyncClient(
        base_url=address.copy_with(userinfo=b""),  # httpx logs the address of each request
        auth=_auth(address, key),
        transport=wire,
        limits=limits,
        # A proxy is for reaching other machines; on loopback it would only see the key.
        trust_env=not is_loopback(address.host),
        # Without TLS there is nothing to verify, and reading the certificates takes longer
        # than a cell.
        verify=address.scheme == "https",
    )


def _auth(address: httpx.URL, key: SecretStr | None) -> httpx.Auth | None:
    """Return what proves to the service who asks: the key, else the password in its address."""
    if key is not None:
        return _Bearer(key)
    return httpx.BasicAuth(address.username, address.password) if address.userinfo else None


async def slices(content: bytes) -> AsyncIterator[bytes]:
    """Yield a body in small pieces: httpx keeps what it gets whole until a full collection."""
    for start in range(0, len(content), _SLICE):
        yield content[start : start + _SLICE]


class _Bearer(httpx.Auth):
    """Adds the key to a request at the last moment, so that no object else holds it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request
