"""The picture that picture.c draws in the guest, computed again on the host, and readers for PNG and PPM."""
import struct
import zlib

WIDTH, HEIGHT = 1024, 768


def expected_rows():
    """The picture as HEIGHT rows of RGB bytes."""
    quadrants = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 200, 40)]
    for y in range(HEIGHT):
        left = (y >= HEIGHT // 2) * 2
        row = [quadrants[left]] * (WIDTH // 2) + [quadrants[left + 1]] * (WIDTH // 2)
        if 64 <= y < 192:
            for x in range(64, 320):
                row[x] = (x - 64, 2 * (y - 64), 128)
        if 80 <= y:
            for x in range(600, 800 - (y - 80)):
                row[x] = (255, 255, 255)
        if 480 <= y < 736:
            t = (y - 480) // 32
            for x in range(128, 384):
                s = (x - 128) // 32
                row[x] = (s * 32, t * 32, (s ^ t) * 36)
        if 420 <= y < 740:
            for x in range(600, 760):
                r, g, b = row[x]
                row[x] = ((255 + r) // 2, g // 2, (255 + b) // 2)
        if 480 <= y < 640:
            row[820:980] = [(0, 0, 0)] * 160
        if 520 <= y < 600:
            row[860:940] = [(0, 255, 255)] * 80
        yield bytes(c for rgb in row for c in rgb)


def read_png(path):
    """An 8-bit RGB or RGBA PNG, not interlaced: (width, height, rows of RGB bytes)."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("%s is not a PNG" % path)
    pos, packed, width, height, channels = 8, b"", 0, 0, 0
    while pos < len(data):
        length, kind = struct.unpack_from(">I4s", data, pos)
        body = data[pos + 8:pos + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            if depth != 8 or colour not in (2, 6) or interlace:
                raise ValueError("%s: not an 8-bit RGB or RGBA picture" % path)
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        pos += 12 + length
    raw, stride = zlib.decompress(packed), width * channels
    rows, above = [], bytes(stride)
    for y in range(height):
        start = y * (stride + 1)
        row = _unfilter(raw[start], bytearray(raw[start + 1:start + 1 + stride]), above, channels)
        rows.append(row)
        above = row
    if channels == 4:
        rows = [b"".join(r[i:i + 3] for i in range(0, stride, 4)) for r in rows]
    return width, height, [bytes(r) for r in rows]


def _unfilter(kind, row, above, step):
    for i in range(len(row)) if kind else ():
        a = row[i - step] if i >= step else 0
        b = above[i]
        c = above[i - step] if i >= step else 0
        if kind == 1:
            guess = a
        elif kind == 2:
            guess = b
        elif kind == 3:
            guess = (a + b) // 2
        else:
            pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            guess = a if pa <= pb and pa <= pc else b if pb <= pc else c
        row[i] = (row[i] + guess) & 255
    return row


def read_ppm(path):
    with open(path, "rb") as f:
        kind, size, _, body = f.read().split(b"\n", 3)
    width, height = map(int, size.split())
    return width, height, [body[y * width * 3:(y + 1) * width * 3] for y in range(height)]


def compare(path, tolerance=1):
    """Compares a PNG or PPM with the picture: (pixels that are off by more than tolerance, what to tell)."""
    width, height, rows = (read_ppm if str(path).endswith(".ppm") else read_png)(path)
    if (width, height) != (WIDTH, HEIGHT):
        return WIDTH * HEIGHT, "%s is %dx%d, not %dx%d" % (path, width, height, WIDTH, HEIGHT)
    wrong, first, worst = 0, "", 0
    for y, (got, want) in enumerate(zip(rows, expected_rows())):
        if got == want:
            continue
        for x in range(WIDTH):
            g, w = got[3 * x:3 * x + 3], want[3 * x:3 * x + 3]
            off = max(abs(p - q) for p, q in zip(g, w))
            worst = max(worst, off)
            if off > tolerance:
                wrong += 1
                first = first or "; first at %d,%d: %s, not %s" % (x, y, tuple(g), tuple(w))
    return wrong, "%d pixels compared, %d wrong, largest difference %d (tolerance %d)%s" % (
        WIDTH * HEIGHT, wrong, worst, tolerance, first)


def write_png(path, width, height, rows):
    """Rows of RGB bytes as a PNG."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    packed = zlib.compress(b"".join(b"\0" + bytes(r) for r in rows), 6)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def read_xwd(path):
    """An X window dump of 32-bit little-endian pixels, as Xvfb -fbdir leaves: (width, height, rows of RGB bytes)."""
    with open(path, "rb") as f:
        data = f.read()
    words = struct.unpack_from(">25I", data)
    size, width, height, bits, stride, colours = words[0], words[4], words[5], words[11], words[12], words[19]
    if bits != 32:
        raise ValueError("%s: %d bits a pixel" % (path, bits))
    start, rows = size + 12 * colours, []
    for y in range(height):
        raw = data[start + y * stride:start + y * stride + 4 * width]
        row = bytearray(3 * width)
        row[0::3], row[1::3], row[2::3] = raw[2::4], raw[1::4], raw[0::4]
        rows.append(bytes(row))
    return width, height, rows


def crop_picture(width, height, rows):
    """Finds the picture in a larger one (a window on a desktop) by its upper left edge: its rows, or None."""
    first = next(expected_rows())
    for y in range(height - HEIGHT + 1):
        x = rows[y].find(first)
        if x >= 0 and x % 3 == 0:
            return [r[x:x + 3 * WIDTH] for r in rows[y:y + HEIGHT]]
    return None
