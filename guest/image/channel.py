"""Talking to a running guest: QEMU's monitor, and commands that the guest's agent runs (see agent.c)."""
import json
import os
import signal
import socket
import struct
import threading
import time

from host import Failure, wait_for

HELLO = b"\xff\xff\xff\xffvgd-agent-01"


class Result:
    """What a command in the guest did. status: its exit status, 128 + the signal, or None at a timeout."""

    def __init__(self):
        self.status, self.stdout, self.stderr, self.timed_out, self.seconds = None, b"", b"", False, 0.0

    @property
    def text(self):
        return self.stdout.decode(errors="replace")

    @property
    def errors(self):
        return self.stderr.decode(errors="replace")

    def __repr__(self):
        return "status %s%s\n%s%s" % (self.status, " (timed out)" if self.timed_out else "", self.text, self.errors)


class Command:
    """A command that runs in the guest."""

    def __init__(self, vm, ident, on_output):
        self.vm, self.id, self._on_output = vm, ident, on_output
        self.result, self.done, self.started = Result(), threading.Event(), time.monotonic()
        self.failed_to_start = None

    def write(self, data):
        for pos in range(0, len(data), 65536):
            self.vm._send(self.id, b"I", data[pos:pos + 65536])

    def close_stdin(self):
        self.vm._send(self.id, b"I", b"")

    def kill(self, signum=signal.SIGKILL):
        self.vm._send(self.id, b"K", struct.pack("<I", signum))

    def wait(self, timeout_s=None):
        """Its Result. At the timeout it is killed, and the result says so."""
        if not self.done.wait(timeout_s):
            self.result.timed_out = True
            self.kill()
            self.done.wait(5)
        if self.failed_to_start is not None:
            raise Failure("the guest could not start the command: %s" % os.strerror(self.failed_to_start))
        return self.result

    def wait_for_output(self, text, timeout_s=30):
        """Until text stands in its standard output."""
        wanted = text.encode()
        wait_for(lambda: wanted in self.result.stdout or self.done.is_set(), timeout_s, "'%s' from the guest" % text)
        if wanted not in self.result.stdout:
            raise Failure("the command ended without printing '%s': %r" % (text, self.result))

    def _take(self, kind, payload):
        if kind == b"O":
            self.result.stdout += payload
        elif kind == b"E":
            self.result.stderr += payload
        if kind in b"OE":
            if self._on_output:
                self._on_output(kind == b"E", payload)
            return
        if kind == b"X":
            status, signum = struct.unpack("<II", payload)
            self.result.status = 128 + signum if signum else status
        elif kind == b"F":
            self.failed_to_start = struct.unpack("<I", payload)[0]
        self.result.seconds = time.monotonic() - self.started
        self.done.set()


class Qmp:
    """QEMU's monitor. Every command has a time limit: an answer that does not come is a frozen QEMU."""

    def __init__(self, path):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        self._buf, self.events, self._lock = b"", [], threading.Lock()
        self._sock.settimeout(10)
        self._line()  # the greeting
        self("qmp_capabilities")

    def _line(self):
        while b"\n" not in self._buf:
            try:
                data = self._sock.recv(65536)
            except socket.timeout:
                raise Failure("QEMU's monitor does not answer") from None
            if not data:
                raise Failure("QEMU closed its monitor")
            self._buf += data
        line, self._buf = self._buf.split(b"\n", 1)
        return json.loads(line)

    def __call__(self, command, timeout_s=10, **arguments):
        with self._lock:
            self._sock.settimeout(timeout_s)
            self._sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
            while True:
                message = self._line()
                if "event" in message:
                    self.events.append(message)
                elif "error" in message:
                    raise Failure("QMP %s: %s" % (command, message["error"].get("desc")))
                else:
                    return message["return"]

    def close(self):
        self._sock.close()
