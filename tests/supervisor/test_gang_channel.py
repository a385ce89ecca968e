"""A channel between two nodes: what was sent arrives whole, once and in order, or the channel ends; and never without end."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from faassupervisor.nodes.channel import BODY_BYTES, HEAD_BYTES, Channel, Gone, Message
from tests.supervisor.channel_lab import BEAT_S, KEYS, LOST_S, everything, exactly, frame, pair, payload, soon

FALSE = "sent what nobody who knows the key sends"


def fed(*pieces: bytes, close: bool = False, lost_s: float = 5) -> tuple[Channel, socket.socket]:
    """A channel that is told these bytes."""
    ours, theirs = socket.socketpair()
    for piece in pieces:
        theirs.sendall(piece)
    if close:
        theirs.shutdown(socket.SHUT_WR)
    return Channel(ours, KEYS, beat_s=BEAT_S, lost_s=lost_s), theirs


def test_messages_of_many_threads_arrive_whole_and_in_the_order_of_each() -> None:
    one, other = pair(lost_s=5)
    found: dict[str, list[int]] = {}

    def send(channel: Channel, name: str) -> None:
        chance = random.Random(name)
        for number in range(40):
            size = chance.choice([0, 1, 1000, BODY_BYTES])
            channel.send(Message(name, {"number": number, "ü": None}, bytes([number]) * size))

    def receive(channel: Channel) -> None:
        for _ in range(3 * 40):
            message = channel.receive()
            assert set(message.body) <= {message.head["number"]}
            found.setdefault(message.kind, []).append(message.head["number"])

    senders = [threading.Thread(target=send, args=(one if n % 2 else other, f"t{n}")) for n in range(6)]
    readers = [threading.Thread(target=receive, args=(channel,)) for channel in (one, other)]
    for thread in (*senders, *readers):
        thread.start()
    for thread in (*senders, *readers):
        thread.join(20)
    assert found == {f"t{n}": list(range(40)) for n in range(6)}
    assert (one.gone, other.gone) == (None, None)
    other.close()
    one.close()


@pytest.mark.parametrize(
    "message", [Message("k", body=bytes(BODY_BYTES + 1)), Message("k", {"a": "x" * HEAD_BYTES})], ids=["body", "head"]
)
def test_a_message_that_is_too_long_is_refused_before_anything_is_sent(message: Message) -> None:
    one, other = pair()
    with pytest.raises(ValueError, match="at most 65536"):
        one.send(message)
    one.send(Message("next"))
    assert other.receive() == Message("next")


def test_nobody_may_change_a_single_bit() -> None:
    """MP9, MP10: also of a length, which would make the reader wait for what never comes."""
    whole = frame(0, payload("secret", b"body"))
    for position in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        channel, theirs = fed(bytes(changed))
        assert everything(channel) == ([], FALSE)
        theirs.close()


def test_a_frame_that_is_cut_off_anywhere_is_no_message() -> None:
    whole = frame(0, payload("k", b"body"))
    for length in range(len(whole)):
        channel, theirs = fed(whole[:length], close=True)
        messages, ended = everything(channel)
        assert not messages
        assert ended == "closed its connection" + (" in the middle of a message" if length else "")
        theirs.close()


FIRST, SECOND, THIRD = (frame(number, payload(str(number))) for number in range(3))


@pytest.mark.parametrize(
    ("frames", "kinds"),
    [
        ((FIRST, FIRST), ["0"]),
        ((FIRST, SECOND, FIRST), ["0", "1"]),
        ((SECOND,), []),
        ((FIRST, THIRD), ["0"]),
        ((SECOND, FIRST), []),
        ((frame(0, payload(), key=KEYS.sending),), []),
        ((frame(0, payload(), key=b"?" * 32),), []),
        ((frame(0, b""),), []),
        ((frame(0, bytes(200_000)),), []),
        ((b"GET / HTTP/1.0\r\n\r\n" * 9,), []),
        ((FIRST, frame(1, b"\0" + (1 << 40).to_bytes(8, "big"))), ["0"]),
    ],
    ids=["repeated", "repeated later", "one left out", "one left out later", "exchanged", "our own sent back", "another key", "empty",
         "too long", "garbage", "more taken than was sent"],
)  # fmt: skip
def test_what_the_other_end_has_not_sent_now_ends_the_channel(frames: tuple[bytes, ...], kinds: list[str]) -> None:
    """MP9: a frame of an earlier attempt has another key; one of this channel has another counter or another direction."""
    channel, theirs = fed(*frames)
    messages, ended = everything(channel)
    assert ([message.kind for message in messages], ended) == (kinds, FALSE)
    with pytest.raises(Gone, match=FALSE):
        channel.send(Message("k"))
    theirs.close()


@pytest.mark.parametrize("said", [b"\2", b"\1\0\0\0\2{}", b"\1\xff\xff\xff\xff[]", b"\1" + b"[" * 60_000, b"\0\0"])
def test_who_knows_the_key_and_talks_nonsense_is_not_listened_to(said: bytes) -> None:
    channel, theirs = fed(frame(0, said))
    assert everything(channel) == ([], "sent a message that is none")
    theirs.close()


def test_nobody_can_make_a_node_keep_more_than_a_window() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, KEYS, beat_s=BEAT_S, lost_s=5)
    with pytest.raises(OSError, match=r"(?i)pipe|reset"):
        for number in range(1000):
            theirs.sendall(frame(number, payload(body=bytes(BODY_BYTES))))
    messages, ended = everything(channel)
    assert len(messages) <= 8
    assert ended == "sent more than it was allowed to"
    theirs.close()


def test_neither_who_takes_nothing_nor_who_says_nothing_is_believed_lost_as_long_as_it_lives() -> None:
    """A sender waits for its receiver: signs of life do not stand behind what nobody takes, and are nobody's messages."""
    one, other = pair(lost_s=0.6)
    quiet, peer = pair(lost_s=0.6)
    sent: list[int] = []

    def send() -> None:
        for number in range(30):
            one.send(Message("k", body=bytes(BODY_BYTES)))
            sent.append(number)

    sender = threading.Thread(target=send)
    sender.start()
    assert quiet.receive(0.8) is None
    stuck_at = len(sent)
    assert 0 < stuck_at < 10
    assert (one.gone, other.gone, quiet.gone, peer.gone) == (None, None, None, None)
    assert [len(other.receive().body) for _ in range(30)] == [BODY_BYTES] * 30
    sender.join(5)
    assert len(sent) == 30
    quiet.send(Message("k"))
    assert peer.receive(1) == Message("k")
    for channel in (one, other, quiet, peer):
        channel.close()


def raw() -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair()
    return Channel(ours, KEYS, beat_s=BEAT_S, lost_s=LOST_S), theirs


def sends_until_it_cannot(channel: Channel) -> None:
    while True:
        channel.send(Message("k", body=bytes(BODY_BYTES)))


def only_receives(channel: Channel) -> None:
    channel.receive()


@pytest.mark.parametrize("waits", [only_receives, sends_until_it_cannot])
@pytest.mark.parametrize("drips", [False, True], ids=["says nothing", "says a frame byte by byte"])
def test_an_end_that_is_silent_is_given_up_in_time_whatever_is_waited_for(
    waits: Callable[[Channel], None], drips: bool
) -> None:
    """MP5, MP8: a connection that is still there is no sign of life."""
    started = time.monotonic()
    channel, theirs = raw()

    def drip() -> None:
        for byte in frame(0, payload("k" * 300)):
            if channel.gone:
                return
            theirs.send(bytes([byte]))
            time.sleep(0.01)

    dripping = threading.Thread(target=drip if drips else lambda: None)
    dripping.start()
    with pytest.raises(Gone, match=r"silent for 0\.25 s|took nothing for 0\.25 s"):
        waits(channel)
    assert LOST_S <= time.monotonic() - started < LOST_S + 1.5
    dripping.join()
    theirs.close()


def test_a_receiver_that_is_not_there_to_receive_learns_in_time_that_the_other_end_is_lost() -> None:
    channel, theirs = raw()
    soon(lambda: channel.gone == "silent for 0.25 s", 2)
    theirs.close()


def test_what_was_sent_before_the_end_is_received_although_the_sender_had_not_read_everything() -> None:
    one, other = pair()
    for _ in range(4):
        other.send(Message("never read", body=bytes(BODY_BYTES)))
        one.send(Message("k", body=bytes(BODY_BYTES)))
    one.send(Message("end", {"why": "done"}))
    one.close()
    messages, ended = everything(other)
    assert [message.kind for message in messages] == ["k"] * 4 + ["end"]
    assert ended == "closed its connection"


@pytest.mark.parametrize("waits", [only_receives, sends_until_it_cannot])
def test_closing_wakes_who_waits_and_may_be_done_twice(waits: Callable[[Channel], None]) -> None:
    one, other = pair(lost_s=5)
    woken: list[str] = []

    def wait() -> None:
        try:
            waits(one)
        except Gone as gone:
            woken.append(str(gone))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)
    one.close()
    one.close()
    waiting.join(2)
    assert woken == ["was closed at this end"]
    with pytest.raises(Gone, match="closed at this end"):
        one.receive()
    soon(lambda: other.gone, 2)


def test_closing_waits_for_an_end_that_takes_nothing_only_as_long_as_it_is_told_to() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, KEYS, beat_s=BEAT_S, lost_s=60)
    started = time.monotonic()
    channel.close(linger_s=0.2)
    assert 0.2 <= time.monotonic() - started < 1
    theirs.close()


def test_a_thread_of_a_channel_ends_with_it() -> None:
    before = {*threading.enumerate()}
    pairs = [pair() for _ in range(5)]
    threads = {*threading.enumerate()} - before
    assert [thread.name for thread in threads] == ["channel"] * 10
    for one, _ in pairs:
        one.close()
    soon(lambda: not any(thread.is_alive() for thread in threads))


# Both ends in a network of their own, which is cut for a moment, and then for ever.
CUT = """
import fcntl, socket, struct, time
from faassupervisor.nodes.channel import Channel, Gone, Message
from faassupervisor.nodes.keys import Keys
KEYS = Keys(b"one way", b"other way")
up, down, set_flags = 1, 0, 0x8914  # netdevice(7)
link = lambda state: fcntl.ioctl(socket.socket(), set_flags, struct.pack("16sh14x", b"lo", state))
link(up)
listener = socket.create_server(("127.0.0.2", 0))
one = Channel(socket.create_connection(listener.getsockname()), KEYS, beat_s=0.1, lost_s=0.8)
other = Channel(listener.accept()[0], KEYS.turned(), beat_s=0.1, lost_s=0.8)
one.send(Message("before"))
print(other.receive().kind)
link(down)
one.send(Message("meanwhile"))
time.sleep(0.2)
link(up)
print(other.receive().kind)
other.send(Message("after"))
print(one.receive().kind)
link(down)
cut = time.monotonic()
for channel in (one, other):
    try:
        channel.receive()
    except Gone as gone:
        print(str(gone), time.monotonic() - cut < 2)
"""


def test_a_cut_of_the_network_is_survived_for_a_while_and_ends_both_ends_in_time() -> None:
    """MP8, in small: a quarter of `lost_s`, as 5 s are of 20 s; then for ever."""
    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-B", "-c", CUT],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    told = [line.partition(" (")[0] for line in ended.stdout.splitlines()]
    assert told == ["before", "meanwhile", "after", "silent for 0.8 s True", "silent for 0.8 s True"], ended.stderr


def test_the_frames_are_as_they_are_described() -> None:
    """Both ends are of one image, but a gang's log is read by who knows the format."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours, KEYS.turned(), beat_s=60, lost_s=60)
    channel.send(Message("k", {}, b"body"))
    whole = frame(0, b"\1\0\0\0\x08" + b'["k",{}]' + b"body")
    assert exactly(theirs, len(whole)) == whole
    theirs.close()
    soon(lambda: channel.gone)
