"""Frames: what the agent prints is read whole, and what anybody else prints does no harm."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tci_kernel.agent.wire import Batch, pack, unpack
from tci_kernel.transport import pieces
from tci_kernel.transport.frames import AgentMissing, Frame, FrameError, Idle, decode
from tci_kernel.transport.message import KINDS, Message
from tci_kernel.transport.pieces import Assembler, Piece, parse
from tci_kernel.transport.requests import (
    INLINE,
    BootOptions,
    Exchange,
    Form,
    boot,
    encode,
)

NONCE = "0123456789abcdef"
HEAD = {"accepted": 0, "last": 9, "child": {"state": "ready", "generation": 1, "reason": ""}}


def wire(msg_type: str, **content: Any) -> list[bytes]:
    """Return the frames of a message."""
    header = {"msg_type": msg_type, "msg_id": "1", "version": "5.4"}
    return [json.dumps(part).encode() for part in (header, {}, {}, content)]


def whole(printed: str) -> Piece:
    """Return the piece in some text."""
    return parse(printed, NONCE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.lists(st.binary(max_size=50), max_size=3), max_size=5),
    st.integers(1, 5000),
    st.text(),
    st.text(),
    st.booleans(),
)
def test_frames_arrive_as_they_were_sent(
    buffers: list[list[bytes]], limit: int, before: str, after: str, as_text: bool
) -> None:
    """Whatever the messages, the limit and the text around it, the frame comes out whole."""
    sent = [
        (number, "iopub", [*wire("stream", text="x" * 400), *more])
        for number, more in enumerate(buffers, 1)
    ]
    batch = Batch(3, pack({**HEAD, "last": len(sent)}, sent), text=as_text)
    assembler, frame = Assembler(), None
    while frame is None:
        piece = batch.piece(NONCE, assembler.offset, limit)
        assert len(piece) <= max(limit, 136)
        frame = assembler.add(whole(before + piece + after))
    assert [(item.number, item.channel, list(item.frames)) for item in frame.messages] == sent


def test_an_image_is_not_encoded_twice() -> None:
    """What does not compress and is ASCII anyway travels as it is, and all else in base64."""
    image = base64.b64encode(os.urandom(3000)).decode()
    ascii_only = pack(HEAD, [(1, "iopub", wire("stream", text=image))])
    assert image in Batch(1, ascii_only, text=True).piece(NONCE, 0, 2**16)
    assert image not in Batch(1, ascii_only).piece(NONCE, 0, 2**16)
    bytes_too = pack(HEAD, [(1, "iopub", [*wire("stream", text=image), b"\xff"])])
    assert image not in Batch(1, bytes_too, text=True).piece(NONCE, 0, 2**16)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("a line of a log\n" * 2**15, "deflate", "deflate"),
        ("a line of a log\n" * 2**7, "text", "deflate"),
        (base64.b64encode(os.urandom(2**19)).decode(), "text", "text"),
    ],
    ids=["a long log", "a short log", "an image"],
)
def test_what_stays_near_is_compressed_if_that_is_quicker(text: str, near: str, far: str) -> None:
    """Over a network all that shrinks is compressed; on one machine long text that shrinks much."""
    packed = pack(HEAD, [(1, "iopub", wire("stream", text=text))])
    encodings = [Batch(1, packed, compress=c, text=True).encoding for c in (False, True)]
    assert encodings == [near, far]


def test_a_message_is_read_lazily_and_typed() -> None:
    """A message gives its parts as JSON objects and its buffers as bytes."""
    frame = decode(pack(HEAD, [(1, "iopub", [*wire("stream", name="stdout", text="é"), b"\xff"])]))
    (message,) = frame.messages
    assert (message.msg_type, message.content["text"], message.frames[4:]) == (
        "stream",
        "é",
        (b"\xff",),
    )
    assert message.parent_header == message.metadata == {}


def test_the_state_is_read() -> None:
    """The state of agent and child comes out typed."""
    head = {**HEAD, "idle": {"threads": 1, "tasks": 0, "comms": 2}, "more": True}
    frame = decode(pack(head, []))
    assert frame.idle == Idle(1, 0, 2)
    assert (frame.child.state, frame.last, frame.more) == ("ready", 9, True)


@pytest.mark.parametrize(
    ("channel", "msg_type"),
    [
        ("iopub", "execute_request"),
        ("iopub", "shutdown_reply"),
        ("iopub", "iopub_welcome"),
        ("shell", "stream"),
        ("control", "shutdown_reply"),
        ("stdin", "input_reply"),
        ("stdin", "execute_reply"),
    ],
)
def test_what_a_kernel_may_not_send_is_left_out(channel: str, msg_type: str) -> None:
    """A message of a type that its channel does not carry is dropped, the others arrive."""
    messages = [(1, channel, wire(msg_type)), (2, "iopub", wire("stream"))]
    frame = decode(pack(HEAD, messages))
    assert [item.number for item in frame.messages] == [2]


@pytest.mark.parametrize("count", [True, -1, "1", 1.5, None, 10**12])
def test_a_count_that_no_cell_has_is_none(count: Any) -> None:
    """The number of a cell is taken from a message only if it can be one."""
    reply = Message(1, "shell", tuple(wire("execute_reply", execution_count=count)))
    assert reply.execution_count is None


@pytest.mark.parametrize(
    "broken",
    [b"", b"[]", b"{", b"\xff", b"null", b'{"a": NaN}', b"[" * 10**5, b"9" * 10**5],
)
@pytest.mark.parametrize("position", range(4))
def test_what_is_no_json_object_is_left_out(broken: bytes, position: int) -> None:
    """A message with a part that no kernel sends is left out."""
    parts = wire("stream")
    parts[position] = broken
    assert decode(pack(HEAD, [(1, "iopub", parts)])).messages == ()


def test_a_bomb_of_tiny_parts_is_said_to_be_left_out() -> None:
    """What takes many times its length in memory is not taken apart; as much text is."""
    parts = wire("display_data")
    parts[3] = b'{"data": [' + b"{}," * 2**22 + b"{}]}"
    text = wire("stream", name="stdout", text='a "{}", \\' * 2**22)
    bomb, printed = decode(pack(HEAD, [(1, "iopub", parts), (2, "iopub", text)])).messages
    assert bomb.msg_type == "stream"
    assert "13 MB is left out" in bomb.content["text"]
    assert printed.frames[3] == text[3]
    parts[0] = wire("execute_reply")[0]
    [reply] = decode(pack(HEAD, [(1, "shell", parts)])).messages
    assert reply.content["ename"] == "InvalidResponse"


@given(st.sampled_from(["shell", "control", "stdin", "iopub"]), json_values, json_values)
def test_only_messages_of_a_kernel_come_out(channel: str, header: Any, content: Any) -> None:
    """Whatever a hostile agent packs: what comes out is of an allowed type, all parts objects."""
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    for message in decode(pack(HEAD, [(1, channel, parts)])).messages:
        assert isinstance(message.content, dict)
        assert message.msg_type in KINDS[message.channel]


@given(st.text() | st.from_regex(pieces._PIECE).map(str))
@settings(max_examples=300)
def test_any_text_is_a_piece_or_an_error(printed: str) -> None:
    """Text of any kind ends in a piece or a FrameError."""
    nonce = printed.split(" ")[2] if printed.count(" ") > 2 else NONCE
    try:
        piece = parse(printed, nonce)
        Assembler().add(piece)
    except FrameError:
        return


@given(st.binary(), st.dictionaries(st.sampled_from([*HEAD, "messages", "idle"]), json_values))
def test_any_batch_is_a_frame_or_an_error(body: bytes, head: dict[str, Any]) -> None:
    """Bytes of any kind, behind a head of any kind, end in a Frame or a FrameError."""
    packed = json.dumps({**HEAD, **head}).encode()
    for batch in (body, b"%08x" % len(packed) + packed + body):
        with contextlib.suppress(FrameError):
            assert isinstance(decode(batch), Frame)


@given(st.data(), st.booleans())
def test_damage_is_noticed(data: st.DataObject, as_text: bool) -> None:
    """A printed frame with any one character changed or cut is an error, or the same frame."""
    packed = pack(HEAD, [(1, "iopub", wire("stream", text="t"))])
    printed = Batch(1, packed, text=as_text).piece(NONCE, 0, 2000)
    position = data.draw(st.integers(0, len(printed) - 1))
    replacement = data.draw(st.sampled_from(["", "A", "0", " ", "\n"]))
    try:
        damaged = whole(printed[:position] + replacement + printed[position + 1 :])
        frame = Assembler().add(damaged)
    except FrameError:
        return
    assert frame is None or frame.messages[0].content == {"text": "t"}


def test_a_bomb_is_refused() -> None:
    """What inflates beyond the bound is refused, in bounded time and memory."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(b"\0" * (pieces.MAX_FRAME + 1)) + deflater.flush()
    began = time.monotonic()
    with pytest.raises(FrameError, match="more than"):
        Assembler().add(Piece(1, 0, len(bomb), compressed=True, data=bomb))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("batch", "offset", "total", "data"),
    [(1, 3, 9, b"abc"), (2, 2, 9, b"abc"), (1, 2, 8, b"abc"), (1, 2, 9, b""), (1, 2, 9, b"x" * 8)],
)
def test_a_piece_that_does_not_fit_is_refused(
    batch: int, offset: int, total: int, data: bytes
) -> None:
    """A piece at another place, of another batch or of another size is an error."""
    assembler = Assembler()
    assembler.add(Piece(1, 0, 9, compressed=False, data=b"ab"))
    with pytest.raises(FrameError):
        assembler.add(Piece(batch, offset, total, compressed=False, data=data))


def test_a_total_beyond_the_bound_is_refused() -> None:
    """A frame that is announced as too long is refused at its first piece."""
    with pytest.raises(FrameError, match="impossible"):
        Assembler().add(Piece(1, 0, pieces.MAX_FRAME + 1, compressed=False, data=b"x"))


def test_a_new_batch_starts_over() -> None:
    """If the agent no longer has a batch, the first piece of the next one replaces it."""
    assembler = Assembler()
    assembler.add(Piece(1, 0, 900, compressed=False, data=b"ab"))
    packed = pack(HEAD, [])
    frame = assembler.add(Piece(2, 0, len(packed), compressed=False, data=packed))
    assert frame is not None
    assert frame.last == HEAD["last"]


def test_another_requests_piece_is_no_answer() -> None:
    """A piece with another nonce is not taken for the answer."""
    printed = Batch(1, pack(HEAD, [])).piece("fedcba9876543210", 0, 2000)
    with pytest.raises(FrameError):
        whole(printed)


def test_a_missing_agent_is_told_from_damage() -> None:
    """A session without agent says so, and nothing has run."""
    with pytest.raises(AgentMissing) as caught:
        whole(f"noise <tci 1 {NONCE} missing> noise")
    assert not caught.value.may_have_run


def test_a_request_says_what_it_was_given() -> None:
    """The agent reads from the code what the relay has put into it."""
    message = Message(1, "shell", (b"{}", b"{}", b"{}", b"{}", b"\xff"), heard=3)
    call = encode(Exchange("me", 4, (message,), hold=0.5), Form(limit=77))
    compile(call.code, "cell", "exec")
    argument = call.code.split("'")[3]
    head, messages = unpack(zlib.decompress(base64.b64decode(argument)))
    assert messages == [(1, "shell", list(message.frames))]
    assert head == {
        "op": "exchange",
        "relay": "me",
        "acknowledged": 4,
        "heard": [3],
        "hold": 0.5,
        "gather": 0.01,
        "flow": 0.0,
        "limit": 77,
        "text": True,
        "compress": True,
    }


def test_long_requests_are_files() -> None:
    """Code stays short however long the messages are, unless it must not use a file."""
    bulk = (b"{}", b"{}", b"{}", b"{}", os.urandom(INLINE))
    exchange = Exchange("me", messages=(Message(1, "shell", bulk),))
    call = encode(exchange)
    assert len(call.code) < 1000
    assert [file.name for file in call.files] == [f".tci-{call.nonce}"]
    assert not encode(exchange, inline=True).files


def test_boot_is_short_enough_for_code() -> None:
    """The whole agent travels inside the code of one request."""
    code = boot(BootOptions("me")).code
    compile(code, "cell", "exec")
    assert len(code) < INLINE
