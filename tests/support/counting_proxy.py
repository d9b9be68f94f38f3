"""A proxy that counts the commands and bytes between MongoDB and its clients: SecantusDB counts no bytes."""

import socket
import struct
import threading
from collections import Counter
from contextlib import suppress

import bson

from tests.support.redis_faults import DelayingProxy, shut_down

#: The wire protocol's opcode for commands and replies, and the length of its header.
OP_MSG, HEADER = 2013, 16


class CountingProxy(DelayingProxy):
    """A port on loopback in front of the MongoDB at that address; `url` is the address through it."""

    def __init__(self, mongo_url: str) -> None:
        super().__init__(mongo_url)
        #: Commands by name, as clients sent them.
        self.commands: Counter[str] = Counter()
        #: In both directions.
        self.bytes = 0
        self._counting = threading.Lock()

    def _requests(self, client: socket.socket, server: socket.socket, matched: threading.Event) -> None:
        del matched
        received = bytearray()
        with suppress(OSError):
            while chunk := client.recv(65_536):
                received += chunk
                names = []
                while len(received) >= HEADER and len(received) >= (length := _length(received)):
                    names.append(_command(bytes(received[:length])))
                    del received[:length]
                with self._counting:
                    self.commands.update(names)
                    self.bytes += len(chunk)
                server.sendall(chunk)
        shut_down(server)

    def _replies(self, server: socket.socket, client: socket.socket, matched: threading.Event) -> None:
        del matched
        with suppress(OSError):
            while chunk := server.recv(65_536):
                with self._counting:
                    self.bytes += len(chunk)
                client.sendall(chunk)
        shut_down(client)


def _length(message: bytearray) -> int:
    """The length that a message's header states, header included."""
    return int(struct.unpack_from("<i", message)[0])


def _command(message: bytes) -> str:
    """The name of a message's command; `handshake` for the old opcode of a connection's first message."""
    if struct.unpack_from("<i", message, 12)[0] != OP_MSG:
        return "handshake"
    sections = HEADER + 4  # after the flags
    while message[sections] != 0:  # documents, which pymongo sends after the command, but need not
        sections += 1 + int(struct.unpack_from("<i", message, sections + 1)[0])
    body = message[sections + 1 :][: struct.unpack_from("<i", message, sections + 1)[0]]
    return next(iter(bson.decode(body)))
