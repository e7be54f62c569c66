"""What goes wrong between the client and the service, as errors of ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tci_kernel.errors import (
    ConnectionLost,
    InvalidResponse,
    NotConfigured,
    TimedOut,
    Unreachable,
)
from tci_kernel.http import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tci_kernel.settings import Settings


@contextmanager
def translated(configured: Settings, limit: float | None, fate: str) -> Iterator[None]:
    """Turn every exception of the layers below into one of `tci_kernel.errors`.

    `fate` is what it says of the cell, if the request carries one that may have run.
    """
    where = "the embedded server" if configured.local else configured.shown_url
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TimedOut(
            f"No connection to {where} within {configured.connect_timeout:g} s "
            "(TCI_CONNECT_TIMEOUT). Nothing has run. Check the network and TCI_BASE_URL."
        ) from error
    except httpx.ConnectError as error:
        raise Unreachable(
            f"{where} cannot be reached: {_reason(error)}. Nothing has run. "
            "Check the network and TCI_BASE_URL; `tci-kernel doctor` tells more."
        ) from error
    except httpx.WriteTimeout as error:
        raise TimedOut(
            f"Sending to {where} stood still for {configured.write_timeout:g} s "
            "(TCI_WRITE_TIMEOUT). The request was not sent whole: nothing has run."
        ) from error
    except httpx.ReadTimeout as error:
        setting = " (TCI_CELL_TIMEOUT)" if fate and limit == configured.cell_timeout else ""
        raise TimedOut(
            f"No answer from {where} within {limit:g} s{setting}.{fate}", may_have_run=True
        ) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise NotConfigured(f"{where} is not an address: {error}. Nothing has run.") from error
    except httpx.DecodingError as error:
        raise InvalidResponse(
            f"{where} sent a body that does not decode: {error}.{fate}"
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise ConnectionLost(
            f"The connection to {where} was lost before the answer came ({_reason(error)}).{fate}"
        ) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
