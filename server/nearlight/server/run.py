"""The server as a process: logs, signals, and the line that says it is ready."""

import asyncio
import gc
import os
import signal

from nearlight.server.config import ServerConfig
from nearlight.server.log import configure
from nearlight.server.serving import Server

# New containers before the youngest are looked through; a call makes some hundred.
YOUNG_OBJECTS = 10_000


def run(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    A second signal ends the process at once; every acknowledged write is on disk already.

    Raises:
        StartError: it cannot start.
    """
    # A server's threads are counted out (`engine.threads`, `engine.decode_threads`). Those of `tokenizers`
    # would come on top, and double the processor time of a batch of 16 captions.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    configure(config.log.level, config.log.format)
    asyncio.run(_serve(config))


async def _serve(config: ServerConfig) -> None:
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, asked_to_stop.set)
    server = Server(config)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        stopping.cancel()
        return
    except BaseException:
        stopping.cancel()
        raise
    spare_collections()
    models = ", ".join(server.model_names)
    print(f"nearlight serving {models} on {server.address} (collections in {config.data_folder})", flush=True)
    await stopping
    for number in signals:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    await server.stop()


def spare_collections() -> None:
    """Let the garbage collector look only at what calls make, and less often.

    What was made before the first call stays: modules, classes, descriptions of models, some 200,000 objects.
    To look through them takes tens of milliseconds, during which nothing else of the process runs; and every
    refused call leaves the cycles of an exception, so that it would come to that again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
