"""Shards made side by side, each by a fresh process."""

import multiprocessing
import signal
from multiprocessing.connection import Connection

from altpo_model.errors import UserError
from mini_corpora.rendering import Job, render_shard


def in_fresh_process(shard: list[Job]) -> list[float]:
    """`render_shard` in a process that makes this shard and nothing else.

    Not a process pool: its workers would outlive a main process that is killed. Raises UserError when the process dies.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(shard, sender), daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = UserError(
            "mini corpora: a process that makes them has died (no memory or disk space left?); run the stage again, "
            "if need be with --set jobs=1"
        )
    process.join()
    if isinstance(answer, UserError):
        raise answer
    return answer


def _work(shard: list[Job], sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the main process ends the work
    try:
        sender.send(render_shard(shard))
    except UserError as error:
        sender.send(error)
