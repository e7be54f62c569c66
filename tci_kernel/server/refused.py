"""What the server answers when it does not do what a request asks."""

from __future__ import annotations


class Refused(Exception):
    """A request that ends in an HTTP error: its status, and a sentence for the caller.

    `retry_after` is in seconds, and only set where trying again can help.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
