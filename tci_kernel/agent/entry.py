"""Where the code of a request comes in."""

from __future__ import annotations

import base64
import os
import signal
import sys
import traceback
import zlib
from typing import TYPE_CHECKING

from .session import about, demand_pieces, interrupts, ipython_of_session, unload
from .shell import Shell
from .wire import Batch, pack, unpack

if TYPE_CHECKING:
    from .foreign import Result
    from .front import Front
    from .wire import JSONObject, Numbered

#: What a frame says where there is no agent.
NOBODY = {
    "accepted": 0,
    "last": 0,
    "child": {"state": "failed", "generation": 0, "reason": ""},
}

#: The agent of this process, from the first request on, and the IPython that it lives in.
front: Front | None = None
ipython = ipython_of_session()
shell = Shell(ipython) if ipython is not None else None


def request(nonce: str, argument: str) -> None:
    """Answer one request of the relay by printing one piece."""
    with interrupts(signal.SIG_IGN):
        text = respond(nonce, argument)
    # Past IPython's own copy of whatever a cell prints, which it keeps for ever.
    type(sys.stdout).write(sys.stdout, f"\n{text}\n")
    if shell is not None:
        shell.forget_request()


def respond(nonce: str, argument: str) -> str:
    """Return the piece that answers a request."""
    try:
        head, messages = unpack(zlib.decompress(read_argument(argument)))
        batch = serve(head, messages)
    except Exception:
        frame = pack({**NOBODY, "problem": traceback.format_exc()}, [])
        return Batch(1, frame).piece(nonce, 0, 2**16)
    goes_on = head["op"] == "fetch" and head["batch"] == batch.number
    return batch.piece(nonce, head["offset"] if goes_on else 0, head["limit"])


def read_argument(argument: str) -> bytes:
    """Return a request, which stands in the code, or in a file that is not to stay."""
    if not argument.startswith("@"):
        return base64.b64decode(argument)
    path = path_of(argument[1:])
    with open(path, "rb") as file:
        os.unlink(path)
        return file.read()


def path_of(name: str) -> str:
    """Return where the service wrote a file; the user may have gone elsewhere."""
    folders = (getattr(ipython, "starting_dir", "."), ".", os.path.expanduser("~"))
    paths = (os.path.join(folder, name) for folder in folders)
    return next(filter(os.path.exists, paths), name)


def serve(head: JSONObject, messages: list[Numbered]) -> Batch:
    """Answer a request; the first one starts everything, or says why that cannot be."""
    global front
    if front is None:
        if shell is not None:
            shell.forget_boot()
        try:
            demand_pieces()
            from .front import Front

            front = Front(head, shell)
        except Exception as error:
            unload()
            known = isinstance(error, (ImportError, OSError))
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            hello = {**about(ipython=False), "refusal": reason}
            hello.update(agent="", fresh=True, moved=[], not_moved={})
            hello["lacks_package"] = isinstance(error, ImportError)
            return Batch(1, pack({**NOBODY, "hello": hello}, []))
    return front.answer(head, messages)


def run_foreign(code: str) -> Result | None:
    """Run a cell of another client in the child."""
    if front is None or front.foreign is None:
        raise RuntimeError("The agent of this session has ended; run the cell again.")
    return front.foreign.run(code[:-1] if code.endswith("\n") else code)
