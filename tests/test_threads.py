"""What the session says when no cell runs: threads, timers, and a front end's own tricks."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from conftest import Server, wait_until
from notebooks import Notebook

#: A thread's or task's word is late after so many seconds. It is told to come at 0.6.
LATE = 1.6 + 0.6

SPEAKS = {
    "thread": (
        "import threading, time\n"
        "def speak(): time.sleep(0.6); print('spoken')\n"
        "threading.Thread(target=speak).start()"
    ),
    "daemon thread": (
        "import threading, time\n"
        "def speak(): time.sleep(0.6); print('spoken')\n"
        "threading.Thread(target=speak, daemon=True).start()"
    ),
    "timer": "import threading; threading.Timer(0.6, print, ['spoken']).start()",
    "process": (
        "import subprocess, sys\n"
        "code = 'import time; time.sleep(0.6); print(\"spoken\")'\n"
        "process = subprocess.Popen([sys.executable, '-c', code])"
    ),
    "process of a process": "import os; os.system('(sleep 0.6; echo spoken) &')",
    "timer of the loop": (
        "import asyncio\nasyncio.get_running_loop().call_later(0.6, print, 'spoken');"
    ),
    "timer of tornado": (
        "from tornado.ioloop import IOLoop\nIOLoop.current().call_later(0.6, print, 'spoken');"
    ),
    "task": (
        "import asyncio\n"
        "async def speak(): await asyncio.sleep(0.6); print('spoken')\n"
        "task = asyncio.create_task(speak())"
    ),
}


@pytest.mark.parametrize("what", SPEAKS)
def test_what_outlives_its_cell_is_heard(live: Notebook, what: str) -> None:
    """What is printed after the cell's end comes within about a second, under its parent."""
    request = live.send(SPEAKS[what])
    live.finish(request)
    ended = time.monotonic()
    assert live.wait_for(request, "stream")["content"]["text"] == "spoken\n"
    assert time.monotonic() - ended < LATE


def test_an_alarm_is_heard(live: Notebook) -> None:
    """What the handler of a signal prints comes too: as in a stock kernel, under no parent."""
    live.run(
        "import signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('spoken'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.6);"
    )
    message = live.client.get_iopub_msg(timeout=LATE)
    assert (message["content"]["text"], message["parent_header"]) == ("spoken\n", {})


def test_a_thread_that_goes_on_is_heard_line_by_line(live: Notebook) -> None:
    """Lines of a thread come as they are printed, not all at its end."""
    code = (
        "import threading, time\n"
        "def speak():\n    for n in range(10): print(n, flush=True); time.sleep(0.2)\n"
        "threading.Thread(target=speak).start()"
    )
    request = live.send(code)
    text, times = live.finish(request).stdout, [time.monotonic()]
    while "9" not in text:
        text += live.wait_for(request, "stream", deadline=5)["content"]["text"]
        times.append(time.monotonic())
    assert text == "".join(f"{n}\n" for n in range(10))
    assert max(after - before for before, after in itertools.pairwise(times)) < 1


def test_completion_by_a_thread(live: Notebook) -> None:
    """VS Code's completion: a hidden cell displays, and its daemon thread updates that later."""
    live.run("remarkable_name = 1")
    live.ask("complete", code="remarkable_", cursor_pos=11)  # loads the completer
    code = (
        "import threading\nfrom IPython.display import display\n"
        "handle = display({'application/json': {}}, raw=True, display_id='asked')\n"
        "def complete(kernel):\n"
        "    import time; time.sleep(0.2)\n"
        "    reply = kernel.do_complete('remarkable_', 11)\n"
        "    handle.update({'application/json': reply}, raw=True)\n"
        "threading.Thread(target=complete, args=[get_ipython().kernel], daemon=True).start()"
    )
    request = live.send(code, store_history=False)
    [shown] = live.finish(request).contents("display_data")
    update = live.wait_for(request, "update_display_data", deadline=2)["content"]
    assert update["transient"] == shown["transient"] == {"display_id": "asked"}
    assert update["data"]["application/json"]["matches"] == ["remarkable_name"]


def counts(server: Server) -> dict[str, Any]:
    """Return how many requests each session has served."""
    return {name: session["execute_count"] for name, session in server.sessions().items()}


def unchanged_for(server: Server, seconds: float) -> bool:
    """Tell whether no session serves a request for some time."""
    before = counts(server)
    time.sleep(seconds)
    return counts(server) == before


def test_nobody_asks_when_nothing_can_come(live: Notebook, shared_server: Server) -> None:
    """With no thread, task or comm left there is no request, however long the notebook idles."""
    live.run("x = 1")
    wait_until(lambda: unchanged_for(shared_server, 0.5), deadline=15)
    assert unchanged_for(shared_server, 3)
    assert live.run("x").result == "1"


def test_a_question_that_nobody_knows_is_not_waited_for(
    live: Notebook, shared_server: Server
) -> None:
    """The child answers such a one with an idle only, and then has nothing to do."""
    live.run("x = 1")
    live.heard(live.tell("unknown_request", {}))
    wait_until(lambda: unchanged_for(shared_server, 1.5), deadline=15)
    assert live.run("x").result == "1"


def test_a_silent_thread_is_asked_ever_more_rarely(live: Notebook, shared_server: Server) -> None:
    """While a thread lives that says nothing, requests become rare."""
    live.run(
        "import threading; stop = threading.Event(); threading.Thread(target=stop.wait).start()"
    )
    wait_until(lambda: unchanged_for(shared_server, 1.5), deadline=15)
    live.run("stop.set()")
