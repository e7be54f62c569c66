"""The debugger, while there is no child that could answer for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tci_kernel.agent.wire import CELLS

if TYPE_CHECKING:
    from tci_kernel.kernel import TCIKernel

Content = dict[str, Any]

_IN_PLAIN = "The debugger is not available in plain transport."
_NOT_BEGUN = "The debugger has not been initialized."

#: JupyterLab asks for it whenever a notebook is opened, and keeps what it says of cells' sources:
#: as the child will have it (`get_tmp_hash_seed` in ipykernel/compiler.py, and agent/child.py).
_NOTHING_DEBUGGED = {
    "isStarted": False,
    "hashMethod": "Murmur2",
    "hashSeed": 0xC70F6907,
    "tmpFilePrefix": CELLS,
    "tmpFileSuffix": ".py",
    "breakpoints": [],
    "stoppedThreads": [],
    "richRendering": True,
    "exceptionPaths": ["Python Exceptions"],
    "copyToGlobals": True,
}


async def begin(kernel: TCIKernel, stream: Any, ident: Any, parent: Any) -> None:
    """Open the session for a person who turns the debugger on, and pass the request on.

    Belongs to the main loop. Where the session cannot be opened, the reply says why.
    """
    reason = _IN_PLAIN
    try:
        await kernel.connection.get().open()
    except Exception as error:  # noqa: BLE001  nothing may escape
        kernel.log.warning("The debugger finds no session: %s", error)
        reason = str(error)
    if (relay := kernel.connection.relay) is not None:
        relay.synchronise(kernel.execution_count)
        relay.ask("control", ident, parent)
    else:
        if (connection := kernel.connection.made) is not None:  # JupyterLab shows no refusal
            connection.tell(f"TCI: the debugger could not be turned on. {reason}")
        content = _refusal(parent["content"], reason)
        kernel.control_thread.io_loop.add_callback(
            kernel.session.send, stream, "debug_reply", content, parent, ident
        )


def answer(request: Content) -> Content:
    """Return a reply that says that nothing is debugged, or refuses in the debugger's own form."""
    if request.get("command") == "debugInfo":
        return {**_reply(request), "success": True, "body": _NOTHING_DEBUGGED}
    return _refusal(request, _NOT_BEGUN)


def _refusal(request: Content, reason: str) -> Content:
    return {**_reply(request), "success": False, "message": reason}


def _reply(request: Content) -> Content:
    return {
        "type": "response",
        "request_seq": request.get("seq", 0),
        "command": request.get("command", ""),
    }
