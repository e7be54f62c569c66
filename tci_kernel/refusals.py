"""What plain transport cannot carry: refused in the protocol's own forms, so that nobody waits."""

from __future__ import annotations

from typing import Any

from tci_kernel.mended import MendedKernel


class Refusals(MendedKernel):
    """Answers requests for comms, a debugger and subshells where no child is there to do it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for message_type in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[message_type] = getattr(self, message_type)

    async def comm_open(self, stream: Any, ident: Any, parent: Any) -> None:
        """Refuse a comm as the protocol has it: by closing it."""
        del stream, ident
        content = {"comm_id": parent["content"].get("comm_id"), "data": {}}
        topic = self._topic("comm_close")
        self.send_response(self.iopub_socket, "comm_close", content, ident=topic)

    async def comm_msg(self, stream: Any, ident: Any, parent: Any) -> None:
        """Ignore a message of a comm that was refused."""

    async def comm_close(self, stream: Any, ident: Any, parent: Any) -> None:
        """Ignore the end of a comm that was refused."""

    async def do_debug_request(self, msg: dict[str, Any]) -> dict[str, Any]:
        """Say that nothing is debugged; refuse the rest in the debugger's own form."""
        from tci_kernel import debugger  # noqa: PLC0415

        return debugger.answer(msg)

    async def create_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Refuse a subshell: a session runs one request at a time."""
        content = {"status": "error", "ename": "NotImplementedError", "traceback": []}
        content["evalue"] = "subshells are not available in plain transport"
        self.session.send(socket, "create_subshell_reply", content, parent, ident)
