"""Send values from process to process over a socket, arrays without a copy.

Not through shared memory: containers often have 64 MB of it, less than one step.
"""

import pickle
import socket
import struct

_HEADER = struct.Struct("<II")  # bytes of the pickle, number of buffers
_SIZE = struct.Struct("<Q")


def send(connection: socket.socket, value: object) -> None:
    """Send a value; its arrays follow as they are, without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = b"".join(_SIZE.pack(view.nbytes) for view in views)
    connection.sendall(_HEADER.pack(len(head), len(views)) + sizes + head)
    for view in views:
        connection.sendall(view)


def receive(connection: socket.socket) -> object | None:
    """What was sent, or None if the sender is gone."""
    header = _exactly(connection, _HEADER.size)
    if header is None:
        return None
    n_head, n_buffers = _HEADER.unpack(header)
    sizes = _exactly(connection, n_buffers * _SIZE.size)
    head = _exactly(connection, n_head)
    if sizes is None or head is None:
        return None
    buffers = []
    for (size,) in _SIZE.iter_unpack(sizes):
        buffer = _exactly(connection, size)
        if buffer is None:
            return None
        buffers.append(buffer)
    value: object = pickle.loads(head, buffers=buffers)
    return value


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            n = connection.recv_into(view)
        except ConnectionResetError:
            return None
        if n == 0:
            return None
        view = view[n:]
    return data
