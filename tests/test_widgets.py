"""Widgets and comms, message by message as a front end sees them."""

from __future__ import annotations

from typing import Any

import pytest

from notebooks import Cell, Notebook


def model(cell: Cell, name: str) -> str:
    """Return the comm of the one widget model of a kind that a cell has opened."""
    opened = cell.contents("comm_open")
    [found] = [c["comm_id"] for c in opened if c["data"]["state"].get("_model_name") == name]
    return found


def update(notebook: Notebook, comm_id: str, state: dict[str, Any], *buffers: bytes) -> Cell:
    """Change a widget as a front end does, and return what came of it."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    if buffers:
        data["buffer_paths"] = [["value", n, "content"] for n in range(len(buffers))]
    content = {"comm_id": comm_id, "data": data}
    request = notebook.tell("comm_msg", content, buffers=list(buffers))
    return Cell({}, notebook.heard(request))


def test_a_slider_moved_by_hand_changes_its_value(live: Notebook) -> None:
    """What the front end sets is the widget's value in the session."""
    cell = live.run("import ipywidgets as w; slider = w.IntSlider(); slider")
    [view] = cell.contents("execute_result")
    slider = model(cell, "IntSliderModel")
    assert view["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] == slider
    update(live, slider, {"value": 7})
    assert live.run("slider.value").result == "7"


def test_a_value_set_in_the_session_moves_the_slider(live: Notebook) -> None:
    """What a cell sets is told to the front end, under the cell's own parent."""
    slider = model(live.run("slider = w.IntSlider()"), "IntSliderModel")
    [told] = live.run("slider.value = 9").contents("comm_msg")
    assert told["comm_id"] == slider
    assert told["data"]["state"] == {"value": 9}


def test_observers_run_and_print(live: Notebook) -> None:
    """A callback's output belongs to the message that moved the slider."""
    code = "slider = w.IntSlider()\nslider.observe(lambda c: print('now', c.new), 'value')"
    slider = model(live.run(code), "IntSliderModel")
    assert update(live, slider, {"value": 3}).stdout == "now 3\n"


def test_an_error_of_an_observer_is_shown(live: Notebook) -> None:
    """A callback that fails is heard of, and the next message is served."""
    code = "slider = w.IntSlider()\nslider.observe(lambda c: 1 / (c.new - 3), 'value')"
    slider = model(live.run(code), "IntSliderModel")
    assert "ZeroDivisionError" in str(update(live, slider, {"value": 3}).messages)
    update(live, slider, {"value": 4})
    assert live.run("slider.value").result == "4"


def test_an_interact_output_updates(live: Notebook) -> None:
    """Moving an `@interact` slider clears its output and shows the new one."""
    cell = live.run("@w.interact(x=(0, 10))\ndef double(x): print('double', 2 * x)")
    output = model(cell, "OutputModel")
    moved = update(live, model(cell, "IntSliderModel"), {"value": 8})
    states = [c["data"]["state"] for c in moved.contents("comm_msg") if c["comm_id"] == output]
    captured = [state["msg_id"] for state in states if "msg_id" in state]
    assert moved.contents("clear_output") == [{"wait": True}]
    assert moved.stdout == "double 16\n"
    assert captured[0] == moved.messages[0]["parent_header"]["msg_id"]
    assert captured[-1] == ""


def test_an_output_widget_captures_a_cell(live: Notebook) -> None:
    """What is printed in an Output widget's context carries the parent that it listens for."""
    output = model(live.run("out = w.Output(); out"), "OutputModel")
    cell = live.run("with out: print('inside')")
    states = [c["data"]["state"] for c in cell.contents("comm_msg") if c["comm_id"] == output]
    assert [bool(state["msg_id"]) for state in states] == [True, False]
    assert cell.stdout == "inside\n"


def test_a_thread_drives_a_progress_bar(live: Notebook) -> None:
    """Each step that a thread makes after its cell has ended is told, in order."""
    code = (
        "import threading, time\nbar = w.IntProgress(max=5)\n"
        "def work():\n    for n in range(5): time.sleep(0.2); bar.value = n + 1\n"
        "threading.Thread(target=work).start()\nbar"
    )
    request = live.send(code)
    cell = live.finish(request)
    bar = model(cell, "IntProgressModel")
    steps = [c["data"]["state"]["value"] for c in cell.contents("comm_msg")]
    while len(steps) < 5:
        told = live.wait_for(request, "comm_msg", deadline=5)["content"]
        assert told["comm_id"] == bar
        steps.append(told["data"]["state"]["value"])
    assert steps == [1, 2, 3, 4, 5]


def test_an_uploaded_file_arrives_whole(live: Notebook) -> None:
    """The bytes of a FileUpload widget come to the session as they are."""
    upload = model(live.run("upload = w.FileUpload()"), "FileUploadModel")
    data = bytes(range(256)) * 4096
    item = {"name": "a.bin", "type": "", "size": len(data), "last_modified": 0}
    update(live, upload, {"value": [item]}, data)
    assert live.run("bytes(upload.value[0].content) == bytes(range(256)) * 4096").result == "True"


def test_buffers_pass_both_ways(live: Notebook) -> None:
    """A comm's binary buffers arrive in number, order and content."""
    cell = live.run(
        "from comm import create_comm\n"
        "echo = create_comm(target_name='echo', buffers=[b'\\x00open'])\n"
        "echo.on_msg(lambda m: echo.send({}, buffers=[bytes(b)[::-1] for b in m['buffers']]))"
    )
    [opening] = [m for m in cell.messages if m["msg_type"] == "comm_open"]
    assert [bytes(b) for b in opening["buffers"]] == [b"\x00open"]
    content = {"comm_id": opening["content"]["comm_id"], "data": {}}
    request = live.tell("comm_msg", content, buffers=[b"abc", b"", b"\xff" * 2**20 + b"\x01"])
    answer = live.wait_for(request, "comm_msg")
    assert [bytes(b) for b in answer["buffers"]] == [b"cba", b"", b"\x01" + b"\xff" * 2**20]


def test_a_front_end_can_open_a_comm(live: Notebook) -> None:
    """A target that the session has registered is called; an unknown one is closed."""
    live.run(
        "def target(comm, message): comm.send({'heard': message['content']['data']})\n"
        "get_ipython().kernel.comm_manager.register_target('mine', target)"
    )
    opening = {"comm_id": "c1", "target_name": "mine", "data": {"a": 1}}
    request = live.tell("comm_open", opening)
    assert live.wait_for(request, "comm_msg")["content"]["data"] == {"heard": {"a": 1}}
    request = live.tell("comm_open", {**opening, "comm_id": "c2", "target_name": "nobody's"})
    assert live.wait_for(request, "comm_close")["content"]["comm_id"] == "c2"


@pytest.mark.parametrize("target", ["jupyter.widget", None])
def test_open_comms_are_listed(live: Notebook, target: str | None) -> None:
    """comm_info tells a front end that joins later which comms there are."""
    slider = model(live.run("slider = w.IntSlider()"), "IntSliderModel")
    comms = live.ask("comm_info", target_name=target)["comms"]
    assert comms[slider] == {"target_name": "jupyter.widget"}
    live.run("slider.close()")
    assert slider not in live.ask("comm_info", target_name=target)["comms"]


def test_a_callback_waits_for_the_cell_that_runs(live: Notebook) -> None:
    """A slider that is moved while a cell runs is heard after it, as on any ipykernel."""
    slider = model(live.run("import time; slider = w.IntSlider()"), "IntSliderModel")
    request = live.send("time.sleep(0.5); slider.value")
    live.wait_for(request, "execute_input")
    content = {"comm_id": slider, "data": {"method": "update", "state": {"value": 5}}}
    live.tell("comm_msg", content)
    assert live.finish(request).result == "0"
    assert live.run("slider.value").result == "5"
