"""What this side asks of the child by itself: no front end is to hear of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.session import Session

    from tci_kernel.channels import Frames
    from tci_kernel.transport.message import Channel, Message

#: Lets the child's count pass over a cell that it did not get.
_SKIP = (
    "(lambda shell: [cells.extend([''] * ({count} - len(cells))) for cells in "
    "(shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw)] "
    "and setattr(shell, 'execution_count', {count}))(get_ipython())"
)


class Unseen:
    """This side's own requests, each until its reply *and* its idle have come."""

    def __init__(self, session: Session, pass_on: Callable[[Channel, Frames], None]) -> None:
        self._session = session
        self._pass_on = pass_on
        self._lacking: dict[str, int] = {}
        self._on_end: dict[str, Callable[[bool], None]] = {}

    def skip_to(self, execution_count: int) -> None:
        """Let the child's next cell count as this one."""
        self.run(_SKIP.format(count=execution_count))

    def run(self, code: str, on_end: Callable[[bool], None] | None = None) -> None:
        """Run code without a trace; the next cell waits for it.

        `on_end` is told whether the child has died meanwhile; of code behind that, nothing is told.
        """
        content = {"code": code, "silent": True, "store_history": False, "user_expressions": {}}
        message_id = self.ask(
            "shell", "execute_request", {**content, "allow_stdin": False, "stop_on_error": False}
        )
        if on_end is not None:
            self._on_end[message_id] = on_end

    def ask(self, channel: Channel, kind: str, content: dict[str, Any]) -> str:
        """Ask something, and return its id; what comes of it is heard by nobody."""
        header, pack = self._session.msg_header(kind), self._session.pack
        message_id: str = header["msg_id"]
        self._lacking[message_id] = 2
        self._pass_on(channel, (pack(header), b"{}", b"{}", pack(content)))
        return message_id

    def takes(self, message: Message) -> bool:
        """Tell whether a message belongs to one of these requests, and note its end."""
        message_id = message.parent_id
        if message_id not in self._lacking:
            return False
        self._lacking[message_id] -= message.channel != "iopub" or message.is_idle
        if message.channel == "shell":
            self._note_reply(message)
        if not self._lacking[message_id]:
            del self._lacking[message_id]
        return True

    def _note_reply(self, message: Message) -> None:
        on_end = self._on_end.pop(message.parent_id, None)
        if on_end is not None:
            died = message.content.get("status") == "aborted"
            if died:
                self._on_end.clear()  # the first one that is aborted is what ran
            on_end(died)
