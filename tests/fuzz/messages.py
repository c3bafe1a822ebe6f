"""Messages to the worker, changed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from nstrt.plugins.worker.messages import EndOfStream, MessageReader, RequestError, encode
from nstrt.plugins.worker.request_parser import parse_request
from nstrt.runtime.errors import NstrtError

from support.mutated_messages import BASES, mutated

__all__ = ["Cases"]


class Cases:
    """Streams of one to five changed messages, read to their end."""

    refusals = (RequestError, NstrtError)

    def __init__(self, folder: Path) -> None:
        pass

    def case(self, source: random.Random) -> tuple[str, bytes]:
        count = source.choice((1, 1, 1, 5))
        return f"{count}", b"".join(mutated(source, BASES) for _ in range(count))

    def read(self, content: bytes) -> int:
        """Raises the last refusal, after all messages are read."""
        stream, refusal = MessageReader(_receiver(content)), None
        while True:
            try:
                request: Any = parse_request(stream.header())
                if getattr(request, "nbytes", 0):
                    stream.payload()
            except EndOfStream:
                break
            except self.refusals as error:
                encode({"message": str(error)})
                refusal = error
        if refusal is not None:
            raise refusal
        return 0


def _receiver(content: bytes) -> Any:
    place = 0

    def receive(most: int) -> bytes:
        nonlocal place
        piece = content[place : place + most]
        place += len(piece)
        return piece

    return receive
