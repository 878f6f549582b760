"""The host's side of the test bed: setup's folders, processes that do not outlive us, vhost-user-gpu backends."""
import atexit
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent


class Failure(Exception):
    """Something that should work did not: the message says what, for a person."""


# --- setup's folders ---

_places = {}


def places():
    """setup's folders as pathlib.Path: cache, sysroot, vmlinux, guest, qemu10, build (this checkout's build folder)."""
    if not _places:
        out = subprocess.run([str(HERE / "setup"), "--print"], stdout=subprocess.PIPE, text=True).stdout
        found = {k: pathlib.Path(v) for k, v in (line.split("=", 1) for line in out.splitlines())}
        for name in ("sysroot", "vmlinux", "guest"):
            if not found[name].exists():
                raise Failure("%s is missing: run guest/image/setup first" % found[name])
        out = subprocess.run([str(HERE / "enter"), "--print-build"], stdout=subprocess.PIPE, text=True, check=True).stdout
        found["build"] = pathlib.Path(out.strip())
        _places.update(found)
    return _places


def enter(argv, root=None, binds=(), bare=False, directory=None):
    """The argument list that runs argv in the sysroot (or in root)."""
    line = [str(HERE / "enter")]
    if root:
        line += ["--root", str(root)]
    if bare:
        line += ["--bare"]
    if directory:
        line += ["--dir", directory]
    for bind in binds:
        line += ["--bind", bind]
    return line + ["--"] + [str(a) for a in argv]


# --- processes ---

_started = []


class Process:
    """A process of ours: its output goes to a file, and it does not outlive this program."""

    def __init__(self, name, argv, log, env=None, pass_fds=(), stdin=subprocess.DEVNULL):
        self.name, self.log = name, pathlib.Path(log)
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=subprocess.STDOUT,
                                          env={**os.environ, **(env or {})}, pass_fds=pass_fds,
                                          start_new_session=True)
        self.pid = self.popen.pid  # enter and chroot replace themselves: this is the program's own pid
        _started.append(self)

    def alive(self):
        return self.popen.poll() is None

    def family(self):
        """Its pid and those of its living descendants."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/stat" % entry) as f:
                        stat = f.read().rpartition(")")[2].split()
                except OSError:
                    continue
                if stat[0] != "Z":
                    children.setdefault(int(stat[1]), []).append(int(entry))
        pids, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            pids.append(pid)
            todo += children.get(pid, [])
        return pids

    def stop(self, timeout_s=5):
        """SIGTERM, then SIGKILL; its descendants too. Returns the exit status."""
        family = self.family() if self.alive() else []
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        for pid in family:
            if pid != self.pid and _same_session(pid, self.pid):
                _kill(pid)
        if self in _started:
            _started.remove(self)
        return self.popen.wait()

    def wait(self, timeout_s):
        """The exit status, or None if it still runs."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def tail(self, lines=25):
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _same_session(pid, sid):
    try:
        return os.getsid(pid) == sid
    except OSError:
        return False


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


@atexit.register
def _stop_all():
    for process in list(_started):
        process.stop(1)


def end_all_on_signals():
    """For main programs: SIGTERM and SIGHUP end what was started, as an exception does."""
    def ended(signum, _):
        sys.exit(128 + signum)  # runs the atexit handlers
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, ended)


def wait_for(condition, timeout_s, what, every_s=0.02):
    """Polls until condition() gives something true, and returns that."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("%s: not within %g s" % (what, timeout_s))
        time.sleep(every_s)


def is_listening(path):
    """Without connecting, which a one-connection server would take for its client."""
    try:
        with open("/proc/net/unix") as f:
            # Num RefCount Protocol Flags Type St Inode Path; the flag says that listen() was called, not only bind()
            return any(line.rstrip("\n").endswith(" " + path) and line.split()[3] == "00010000" for line in f)
    except OSError:
        return os.path.exists(path)


# --- backends ---

def find_vgd():
    """The newest vgd built in this checkout's build folder, as its path in the chroot."""
    build = places()["build"]
    found = [p for p in build.glob("*/backend/vgd") if os.access(p, os.X_OK) and p.is_file()]
    found += [p for p in build.glob("*/vgd") if os.access(p, os.X_OK) and p.is_file()]
    named = [p for p in found if p.relative_to(build).parts[0] == os.environ.get("VGD_BUILD", "sysroot")]
    if not named and not found:
        raise Failure("vgd is not built in %s (./demo and ./check do that)" % build)
    best = max(named or found, key=lambda p: p.stat().st_mtime)
    return "/vgd/build/" + str(best.relative_to(build))


class Backend:
    """A vhost-user-gpu backend: kind "vgd" (ours) or "contrib" (QEMU's, for comparison).

    args: further arguments; virgl: --virgl; venus: --venus; hostmem: --hostmem's size, such as "1G"; env: further
    environment; binary: another program of ours (path in the chroot); wrap: what to run it under, such as ["strace", "-f"]; by_fd: connected to QEMU by a socket pair, as libvirt
    does, not by a path.
    """

    def __init__(self, kind="vgd", args=(), virgl=True, venus=False, hostmem=None, env=None, binary=None, wrap=(),
                 by_fd=False, folder=None):
        self.kind, self.args, self.virgl, self.env = kind, list(args), virgl, dict(env or {})
        self.venus = venus
        self.args += (["--venus"] if venus else []) + (["--hostmem=" + hostmem] if hostmem else [])
        self.binary, self.wrap = binary, list(wrap)
        self._own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="vgd-be."))
        self.socket = str(self.folder / "gpu.sock")
        self.qemu_end, self._our_end = socket.socketpair() if by_fd else (None, None)
        self.process = None

    def start(self):
        # Control sockets go to a folder of this backend's own.
        env = {"XDG_RUNTIME_DIR": str(self.folder), **self.env}
        if self.kind == "contrib":
            env = {"GBM_ALWAYS_SOFTWARE": "1", "LD_PRELOAD": udmabuf_standin(), **env}
            argv = ["/usr/lib/qemu/vhost-user-gpu", "-r", "/dev/null"] + (["-v"] if self.virgl else [])
        else:
            argv = [self.binary or find_vgd()] + (["--virgl"] if self.virgl else [])
        end = self._our_end
        argv.append("--fd=%d" % end.fileno() if end else "--socket-path=" + self.socket)
        # The environment goes in by env(1), inside: a preload must not reach bash and chroot out here.
        words = ["env"] + ["%s=%s" % i for i in env.items()] + self.wrap + argv + self.args
        self.process = Process(self.kind, enter(words), self.folder / "backend.log",
                               pass_fds=(end.fileno(),) if end else ())
        if end:
            end.close()
            return self

        def ready():
            if not self.process.alive():
                raise Failure("%s ended with status %s before its socket was there:\n%s" % (
                    " ".join(argv), self.process.popen.returncode, self.process.tail()))
            return is_listening(self.socket)
        wait_for(ready, 30, "the backend's socket")
        return self

    def ctl(self, *args):
        """Runs vgdctl on this backend; gives its subprocess.CompletedProcess, output as text."""
        tool = os.path.dirname(self.binary or find_vgd()) + "/control/vgdctl"
        words = ["env", "XDG_RUNTIME_DIR=%s" % self.folder, tool, *args]
        return subprocess.run(enter(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)

    def trace(self, *args):
        """Runs vgd-trace; else as ctl."""
        tool = os.path.dirname(os.path.dirname(self.binary or find_vgd())) + "/guest/trace/vgd-trace"
        return subprocess.run(enter([tool, *args]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.process.log.read_text(errors="replace")

    def children(self, name=None):
        """Living descendants, by /proc/PID/comm if a name is given (vgd's renderer is "vgd-worker")."""
        found = [p for p in self.process.family() if p != self.pid]
        return [p for p in found if name is None or comm(p) == name]

    def render_server(self, timeout_s=10):
        """The pid of the process that all Vulkan contexts come from."""
        return wait_for(lambda: self.children("virgl_render_se"), timeout_s, "a virgl_render_server process")[0]

    def contexts(self):
        """The pids of the render server's processes, one for each Vulkan context."""
        return [p for p in self.children() if comm(p).startswith("virgl-")]

    def worker(self, timeout_s=10):
        return wait_for(lambda: self.children("vgd-worker"), timeout_s, "a vgd-worker process")[0]

    def stop(self):
        if self.process:
            self.process.stop()
        if self.qemu_end:
            self.qemu_end.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def comm(pid):
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return ""


def fd_count(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def private_dirty_kib(pid):
    """Private_Dirty without guest RAM (a memfd of QEMU's) and without frame memory.

    Supervisor and worker map the same frames: each page counts as private to whichever of the two is the only one that
    has touched it, so that after a death the supervisor would seem to grow by what the new worker has not drawn yet.
    """
    total, skip = 0, False
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                skip = "memfd:memory-backend-memfd" in line or "memfd:vgd-frames" in line
            elif words[0] == "Private_Dirty:" and not skip:
                total += int(words[1])
    return total


def build_c(source, name, flags=("-shared", "-fPIC")):
    """Compiles one C file of this checkout in the sysroot, once per content; gives its path in the chroot."""
    build = places()["build"] / "lib"
    build.mkdir(parents=True, exist_ok=True)
    target, source = build / name, CHECKOUT / source
    with open(build / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            r = subprocess.run(enter(["gcc", "-O2", "-Wall", "-Wextra", *flags, "-o", "/vgd/build/lib/" + name + ".new",
                                      "/vgd/src/" + str(source.relative_to(CHECKOUT)), "-ldl"]),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if r.returncode:
                raise Failure("compiling %s failed:\n%s" % (source, r.stdout))
            os.rename(build / (name + ".new"), target)
    return "/vgd/build/lib/" + name


def udmabuf_standin():
    """A library to preload where the host has no /dev/udmabuf: memfds stand in for dma-bufs."""
    return build_c("tests/lib/udmabuf-standin.c", "udmabuf-standin.so")
