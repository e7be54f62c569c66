"""A kernel's ports take connections before there is a kernel."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
import zmq
from jupyter_client.connect import write_connection_file

from conftest import run_program
from tci_kernel import ports

#: Milliseconds after which what should come has not come.
DEADLINE = 10_000


def test_who_comes_early_is_heard(tmp_path: Path) -> None:
    """A message that is sent to the port of a socket that is not yet bound reaches it."""
    file, connection = write_connection_file(str(tmp_path / "kernel.json"))
    ports.listen(file)
    early = socket.create_connection(("127.0.0.1", connection["control_port"]))
    context = zmq.Context()
    with early, context, context.socket(zmq.DEALER) as client, context.socket(zmq.ROUTER) as kernel:
        client.linger = 0
        client.reconnect_ivl = DEADLINE  # one that is refused is not heard in time
        address = f"tcp://127.0.0.1:{connection['shell_port']}"
        client.connect(address)
        client.send(b"request")
        listener = ports.hand_over(connection["shell_port"])
        assert listener is not None
        kernel.setsockopt(zmq.USE_FD, listener)
        kernel.bind(address)
        assert kernel.poll(DEADLINE)
        assert kernel.recv_multipart()[1:] == [b"request"]
    assert ports.hand_over(connection["shell_port"]) is None
    for name in ("control", "iopub", "stdin"):
        socket.close(ports.hand_over(connection[f"{name}_port"]))


@pytest.mark.parametrize(
    "connection",
    [
        "",
        "[1]",
        "{}",
        '{"transport": "ipc"}',
        '{"transport": "tcp", "ip": "localhost"}',
        '{"transport": "tcp", "ip": 1}',
        '{"transport": "tcp", "ip": "127.0.0.1", "shell_port": "x"}',
        '{"transport": "tcp", "ip": "127.0.0.1", "shell_port": 99999999}',
        '{"transport": "tcp", "ip": "127.0.0.1", "shell_port": 0}',
    ],
)
def test_a_wrong_connection_file_is_left_to_the_kernel(tmp_path: Path, connection: str) -> None:
    """Whatever stands in it, nothing is raised."""
    (tmp_path / "kernel.json").write_text(connection)
    ports.listen(str(tmp_path / "kernel.json"))
    ports.listen(str(tmp_path / "there-is-none"))


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """A kernel whose port another process has ends, and says why."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        file, _ = write_connection_file(str(tmp_path / "kernel.json"), stdin_port=taken)
        done = run_program(sys.executable, "-m", "tci_kernel", "-f", file, folder=tmp_path)
    assert done.returncode != 0
    assert "Address already in use" in done.stderr


def test_a_file_of_odd_bytes_is_left_to_the_kernel(tmp_path: Path) -> None:
    """A connection file that is no text raises nothing either."""
    (tmp_path / "kernel.json").write_bytes(json.dumps({}).encode("utf-16"))
    ports.listen(str(tmp_path / "kernel.json"))
