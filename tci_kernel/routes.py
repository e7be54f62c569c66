"""Which of the front ends' messages are for the child, and which this kernel answers itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tci_kernel import history, magics
from tci_kernel.errors import TCIError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.channels import Channels

#: Answered here although a child is there, on either channel.
_ANSWERED_HERE = frozenset({"connect_request", "interrupt_request", "shutdown_request"})

#: What can be, or ask, about a `%tci` line.
_WITH_CODE = frozenset({"execute_request", "complete_request", "inspect_request"})


class Routes:
    """Tells of a message, as it came from a socket, where it goes."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    def takes_control(self, raw: Sequence[Any], *, silent: bool) -> bool:
        """Tell whether a message on control is for the child.

        A server that connects asks for the kernel's info here; while the service is `silent` it
        gets this side's.
        """
        try:
            kind = self._channels.peek(raw)["msg_type"]
        except (ValueError, TypeError, KeyError):
            return False
        return kind not in _ANSWERED_HERE and not (silent and kind == "kernel_info_request")

    def takes(self, raw: Sequence[Any], *, aborting: bool, working: bool) -> bool:
        """Tell whether a message on shell is for the child; raises ValueError for a broken one."""
        kind = self._channels.peek(raw)["msg_type"]
        if kind in _ANSWERED_HERE:
            return False
        if kind == "execute_request" and aborting:
            return False
        if kind == "is_complete_request":
            # Asked at each Enter, and known without a round trip. But an answer that overtakes a
            # cell makes the kernel look idle.
            return working
        if kind == "history_request":
            return history.is_sessions(self._channels.content(raw))
        return kind not in _WITH_CODE or not self._has_magics(kind, raw)

    def passes_by(self, raw: Sequence[Any]) -> bool:
        """Tell whether a message is for a subshell of the child: it waits for no cell."""
        try:
            in_subshell = self._channels.peek(raw).get("subshell_id") is not None
            return in_subshell and self.takes(raw, aborting=False, working=True)
        except (ValueError, TypeError, KeyError):
            return False

    def is_cell(self, raw: Sequence[Any]) -> bool:
        """Tell whether a message on shell asks to run a cell."""
        return bool(self._channels.peek(raw)["msg_type"] == "execute_request")

    def _has_magics(self, kind: str, raw: Sequence[Any]) -> bool:
        """Tell whether a cell has `%tci` lines, or a question is about one; odd ones have none."""
        if not any(word in bytes(frame.bytes) for frame in raw[-4:] for word in (b"tci", b"%")):
            return False
        content = self._channels.content(raw)
        try:
            if kind != "execute_request":
                return magics.line_at(content["code"], content["cursor_pos"]) is not None
            return bool(magics.split(content["code"]).magics)
        except TCIError:
            return True  # to be said on this side
        except Exception:  # noqa: BLE001  the child answers what is odd as a local kernel does
            return False
