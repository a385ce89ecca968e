"""What makes a server of this machine as distant as one across a country? A TCP proxy that lets each byte wait.

    python benchmarks/delay.py PORT MILLISECONDS        prints its own port; ends when its standard input does

Half of the round trip in each direction; a new connection takes a round trip more, as its handshake would. Bandwidth is not limited.
"""

from __future__ import annotations

import asyncio
import sys
import threading


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, half_s: float) -> None:
    """What comes leaves half a round trip later, in order, however much is under way."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1024)

    async def deliver() -> None:
        while True:
            due, piece = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not piece:
                break
            writer.write(piece)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(256 << 10):
            await waiting.put((loop.time() + half_s, piece))
        await waiting.put((loop.time() + half_s, b""))
        await delivery
    except ConnectionError:
        delivery.cancel()
    finally:
        writer.close()


async def _serve(behind: int, rtt_s: float) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(rtt_s)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(_pump(reader, there_writer, rtt_s / 2), _pump(there_reader, writer, rtt_s / 2))

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), loop.call_soon_threadsafe(over.set)), daemon=True).start()
    await over.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
