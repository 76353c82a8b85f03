"""A network cable between two guests: two socket pairs and a thread that carries frames from one to the other.

Nothing of the host's network takes part. A cable can be cut and healed and made slow at any time. A frame that finds the
other end not listening is dropped, as on a real wire; so the ends stay open while a guest is dead or boots again.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections import deque

_FRAME_BYTES = 65536
_BUFFER_BYTES = 1 << 20  # a window of TCP fits in, so that a busy host loses no frames
_BURST = 64  # frames carried in one direction before the other gets its turn


class Cable(threading.Thread):
    """``server_end`` and ``client_end`` are for the guests; `close` ends the thread and frees everything."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.server_end, self._server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client_end, self._client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in self._ends():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            end.setblocking(False)
        self.is_cut = False
        self.loses_replies = False
        """Whether nothing comes back to the client, so that what it asks is done and never answered."""
        self.delay_s = 0.0
        """How long each frame takes, in either direction."""
        self._trap: tuple[re.Pattern[bytes], str] | None = None
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        self.start()

    def cut_at(self, request: bytes) -> None:
        """Be cut by the first frame to the server that matches: that request is lost. Requests hold the names of files."""
        self._trap = re.compile(request, re.DOTALL), "is_cut"

    def lose_replies_to(self, request: bytes) -> None:
        """Lose all replies from the first frame on that matches: that request is done and never answered."""
        self._trap = re.compile(request, re.DOTALL), "loses_replies"

    def mend(self) -> None:
        """Be whole and fast."""
        self._trap = None
        self.is_cut = self.loses_replies = False
        self.delay_s = 0.0

    def run(self) -> None:
        """Carry frames until `close`."""
        other_side = {self._server: self._client, self._client: self._server}
        watched: list[int | socket.socket] = [self._wake_read, *other_side]
        while True:
            wait_s = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            readable, _, _ = select.select(watched, [], [], wait_s)
            if self._wake_read in readable:
                return
            for side, other in other_side.items():
                if side in readable:
                    self._carry(side, other)
            while self._late and self._late[0][0] <= time.monotonic():
                _, target, frame = self._late.popleft()
                _send(target, frame)

    def close(self) -> None:
        """Stop carrying and close all ends."""
        os.close(self._wake_write)  # its other end becomes readable
        self.join()
        os.close(self._wake_read)
        for end in self._ends():
            end.close()

    def _ends(self) -> tuple[socket.socket, ...]:
        return self.server_end, self._server, self.client_end, self._client

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                frame = source.recv(_FRAME_BYTES)
            except (BlockingIOError, ConnectionError):
                return
            if self._trap is not None and target is self._server and self._trap[0].search(frame):
                setattr(self, self._trap[1], True)
                self._trap = None
            if self.is_cut or (self.loses_replies and target is self._client):
                continue
            if self.delay_s or self._late:  # what is under way is not overtaken
                self._late.append((time.monotonic() + self.delay_s, target, frame))
            else:
                _send(target, frame)


def _send(target: socket.socket, frame: bytes) -> None:
    try:
        target.send(frame)
    except (BlockingIOError, ConnectionError):
        pass  # nobody listens, or not fast enough: lost
