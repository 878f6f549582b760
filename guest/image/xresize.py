"""Resizes the windows on an X server, which has no window manager to ask: three requests of the X11 protocol."""
import socket
import struct


def resize_all(display, width, height):
    """Puts each mapped child of the root window at 0,0 with this size; gives how many there were."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect("/tmp/.X11-unix/X%d" % display)

        def read(n):
            data = b""
            while len(data) < n:
                more = s.recv(n - len(data))
                if not more:
                    raise OSError("the X server closed the connection")
                data += more
            return data

        def reply():
            while True:
                head = read(32)
                extra = read(4 * struct.unpack_from("<I", head, 4)[0]) if head[0] == 1 else b""
                if head[0] == 1:
                    return head, extra

        s.sendall(struct.pack("<BxHHHHxx", 0x6C, 11, 0, 0, 0))
        status, _, _, n_words = struct.unpack("<BxHHH", read(8))
        setup = read(4 * n_words)
        if status != 1:
            raise OSError("the X server refused the connection")
        vendor_bytes, n_formats = struct.unpack_from("<H", setup, 16)[0], setup[21]
        root = struct.unpack_from("<I", setup, 32 + (vendor_bytes + 3) // 4 * 4 + 8 * n_formats)[0]
        s.sendall(struct.pack("<BxHI", 15, 2, root))  # QueryTree
        _, children = reply()
        count = 0
        for window in struct.unpack("<%dI" % (len(children) // 4), children):
            s.sendall(struct.pack("<BxHI", 3, 2, window))  # GetWindowAttributes
            if reply()[0][26] != 2:  # not viewable
                continue
            s.sendall(struct.pack("<BxHIHxxiiII", 12, 7, window, 0xF, 0, 0, width, height))  # ConfigureWindow
            count += 1
        s.sendall(struct.pack("<BxHI", 15, 2, root))  # a round trip: the server has done the above
        reply()
        return count
