"""Every error that this package raises on purpose.

    TCIError
    ├── NotConfigured            no key, no address, or settings that contradict each other
    ├── InvalidRequest           the service refused the request itself (400, 404, 413, 422)
    ├── Unauthorized             the key is wrong or may not do this (401, 403)
    ├── Unreachable              DNS, refused, TLS: nothing was sent
    ├── RateLimited              429, after the retries
    ├── TimedOut                 a time limit of ours passed; the message names the setting
    ├── ConnectionLost           sent, but no answer: the cell may have run
    ├── ServiceError             5xx, or a failure that the service reported
    ├── InvalidResponse          an answer that is not the contract
    │   └── FrameError           what the agent printed is damaged (transport/frames.py)
    │       └── AgentMissing     the session has no agent (any more)
    ├── SessionExpired           the session has ended, died, or is not yours
    ├── LiveRefused              the session cannot do what live transport needs
    ├── Superseded               another kernel has taken the session over
    └── MagicError               a `%tci` line that cannot be done
        └── FileRefused          a local path outside the allowed roots

Each message says what happened, what is kept or lost, and what to do next.
"""

from __future__ import annotations

#: What an error says of the cell, after its own words, where nobody knows whether it ran.
MAY_HAVE_RUN = " The cell may have run: check before you run it again."


class TCIError(Exception):
    """Root of all errors of this package.

    `may_have_run` is True when the request left this machine and nobody knows whether its code
    ran. Such a request is never sent again, except to an agent, which acts once on what it gets
    twice.
    """

    may_have_run: bool = False

    def __init__(self, message: str, *, may_have_run: bool | None = None) -> None:
        super().__init__(message)
        if may_have_run is not None:
            self.may_have_run = may_have_run


class NotConfigured(TCIError):
    """The settings do not say where to run, or say it in two ways that disagree."""


class InvalidRequest(TCIError):
    """The service refused the request itself; nothing has run."""


class Unauthorized(TCIError):
    """The service does not accept the key."""


class Unreachable(TCIError):
    """No connection could be made; nothing was sent, nothing has run."""


class RateLimited(TCIError):
    """The service asked for fewer requests; nothing has run.

    `retry_after` is what the service asked to wait, in seconds, or None.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TimedOut(TCIError):
    """A time limit passed; the message names the setting that changes it."""


class ConnectionLost(TCIError):
    """The connection ended after the request was sent: the cell may have run."""

    may_have_run = True


class ServiceError(TCIError):
    """The service failed, or a proxy in front of it did."""

    may_have_run = True


class InvalidResponse(TCIError):
    """The answer does not follow the API; the message says in what."""

    may_have_run = True


class SessionExpired(TCIError):
    """The session has ended, or belongs to another caller; its variables and files are gone.

    `cause` is what the service says of it, if anything.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class LiveRefused(TCIError):
    """The session cannot do what the live transport needs; the message says what.

    `installable` tells that it lacks only what can be installed.
    """

    def __init__(self, message: str, *, installable: bool = False) -> None:
        super().__init__(message)
        self.installable = installable

    def between_cells(self) -> LiveRefused:
        """Return the error of a cell that comes after the session was found to have lost that."""
        return LiveRefused(
            f"{self} Live transport has ended, and with it the variables; files are kept. This "
            "cell has not run: first run again what it builds on."
        )


class Superseded(TCIError):
    """Another kernel has taken over the session's Python."""


class MagicError(TCIError):
    """A `%tci` line is wrong or cannot be done; no code of the cell has run."""


class FileRefused(MagicError):
    """A local path lies outside the folders that `%tci` may touch."""
