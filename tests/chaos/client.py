#!/usr/bin/env python3
"""A client on a node: opens connections to a VIP, keeps some, looks names up, and checks every reply.

client.py NAME PORT RATE: runs until its stdin ends; each thing it did is one JSON line on stdout.
Open loop: each connection and lookup starts when it is due, whatever became of those before. Nothing
is retried here: what fails has failed. Only Python's own library, and only the node's own muster is
asked: the resolver's second nameserver would hide that it is silent.
"""
import asyncio
import json
import os
import random
import socket
import struct
import sys
import time

NAME, PORT, RATE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
SERVER = (sys.argv[4] if len(sys.argv) > 4 else "127.0.0.1", 53)
PATIENCE = 15  # seconds; a repeated SYN goes out after 1, 3 and 7
LOOKUP = 2     # seconds for one lookup
KEPT = 6       # connections that stay open


def say(kind, began, wrong="", node="", **more):
    line = {"kind": kind, "at": began, "ms": round((time.monotonic() - began) * 1000, 2), "wrong": wrong, "node": node, **more}
    os.write(1, (json.dumps(line) + "\n").encode())


def question(name):
    number = random.randrange(65536)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return number, struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def addresses(reply, number):
    """The A records of a reply, None for one to somebody else, or ValueError with what is wrong with it.

    A daemon that was stopped answers late, and the port may be another question's by then.
    """
    got, flags, _, answers = struct.unpack("!4H", reply[:8])
    if got != number:
        return None
    if not flags & 0x8000:
        raise ValueError("not an answer")
    if flags & 15:
        raise ValueError({2: "servfail", 3: "nxdomain", 5: "refused"}.get(flags & 15, "rcode"))
    at = 12
    while reply[at]:
        at += reply[at] + 1
    at += 5
    found = []
    for _ in range(answers):
        while reply[at] and reply[at] < 192:
            at += reply[at] + 1
        at += 2 if reply[at] >= 192 else 1
        kind, _, _, length = struct.unpack("!2HIH", reply[at:at + 10])
        at += 10
        if kind == 1:
            found.append(socket.inet_ntoa(reply[at:at + length]))
        at += length
    return found


async def ask(name):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect(SERVER)
        number, packet = question(name)
        await loop.sock_sendall(udp, packet)
        until = loop.time() + LOOKUP
        while True:
            found = addresses(await asyncio.wait_for(loop.sock_recv(udp, 4096), until - loop.time()), number)
            if found is not None:
                return found


def named(error):
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError)):
        return "reset"
    return str(error) or type(error).__name__


async def lookup(vip):
    began = time.monotonic()
    try:
        found = await ask(NAME)
        say("lookup", began, "" if found == [vip] else f"answers {found}")
    except (OSError, ValueError, IndexError, struct.error, asyncio.TimeoutError) as error:
        say("lookup", began, named(error))


async def request(reader, writer):
    """One request and its reply: (task, node). A reply that is not of the form is an error."""
    writer.write(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    lines = (await reader.readexactly(length)).decode().splitlines()
    if not head.startswith(b"HTTP/1.1 200 ") or not lines[0].startswith("task ") or not lines[1].startswith("node "):
        raise ValueError("another reply")
    return lines[0][5:], lines[1].split()[1]


async def visit(vip):
    """A connection of its own. Where it fails before it stands, no node is named."""
    began, writer, stage = time.monotonic(), None, "connect"
    try:
        async def whole():
            nonlocal writer, stage
            reader, writer = await asyncio.open_connection(vip, PORT)
            stage = "reply"
            return await request(reader, writer)
        task, node = await asyncio.wait_for(whole(), PATIENCE)
        say("connect", began, node=node, task=task)
    except (OSError, ValueError, IndexError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
        say(stage, began, named(error))
    finally:
        if writer is not None:
            writer.close()


async def keep(vip, ended):
    """A connection that stays, with a request every now and then; opened again only once it broke."""
    while not ended.is_set():
        began, node, writer = time.monotonic(), "", None
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(vip, PORT), PATIENCE)
            while not ended.is_set():
                began = time.monotonic()
                _, node = await asyncio.wait_for(request(reader, writer), PATIENCE)
                say("kept", began, node=node)
                await asyncio.sleep(0.25)
        except (OSError, ValueError, IndexError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            say("kept", began, named(error), node=node)
            await asyncio.sleep(0.25)
        finally:
            if writer is not None:
                writer.close()


async def first_address():
    while True:
        try:
            found = await ask(NAME)
            if found:
                return found[0]
        except (OSError, ValueError, IndexError, struct.error, asyncio.TimeoutError):
            await asyncio.sleep(0.1)


async def main():
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(0, lambda: ended.set() if not os.read(0, 1024) else None)
    vip = await first_address()
    under_way = {asyncio.ensure_future(keep(vip, ended)) for _ in range(KEPT)}
    due = time.monotonic()
    say("begun", due, vip=vip)
    while not ended.is_set():
        for one in (visit(vip), lookup(vip)):
            task = asyncio.ensure_future(one)
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        due = max(due + 1 / RATE, time.monotonic() - 1)
        await asyncio.sleep(max(0, due - time.monotonic()))
    loop.remove_reader(0)
    if under_way:
        await asyncio.wait(under_way, timeout=PATIENCE + 5)


asyncio.run(main())
