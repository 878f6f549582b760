"""Boots the test guest under QEMU, runs commands in it, and ends everything it started.

    with Backend("vgd") as backend, VM(device=gpu(backend)) as vm:
        result = vm.run(["glmark2-es2-drm", "-b", "build"])

Python's standard library only, 3.9 and newer. Everything runs in setup's folders by way of `enter`, each process in a
session and a mount namespace of its own; processes are ended by pid, also when the test fails. host.py has the
processes and backends, channel.py the ways to talk to the guest; their names are reachable through this module.
"""
import os
import pathlib
import re
import shutil
import socket
import struct
import tempfile
import threading
import time

import picture
import xresize
from channel import HELLO, Command, Qmp, Result
from host import (CHECKOUT, HERE, Backend, Failure, Process, build_c, comm, end_all_on_signals, enter, fd_count, find_vgd,
                  is_listening, places, private_dirty_kib, udmabuf_standin, wait_for)

__all__ = ["CHECKOUT", "FRONTENDS", "GLMARK2", "HERE", "ONE_MODE", "VM", "Backend", "Command", "Failure", "Process",
           "Qmp", "Result", "build_c", "comm", "end_all_on_signals", "enter", "fd_count", "find_vgd", "generic", "gpu", "in_process",
           "in_process_venus", "pick_accel",
           "places", "private_dirty_kib", "udmabuf_standin", "vga", "wait_for"]


# --- devices: each gives QEMU's arguments, and its environment ---

def gpu(backend, chardev="gpu0", **props):
    """vhost-user-gpu-pci on a backend."""
    return _vhost("vhost-user-gpu-pci", backend, chardev, props)


def vga(backend, chardev="gpu0", **props):
    """vhost-user-vga on a backend."""
    return _vhost("vhost-user-vga", backend, chardev, props)


def generic(backend, chardev="gpu0", **props):
    """QEMU 11.1's generic vhost-user device, told to be a virtio-gpu: renders, shows nothing."""
    wanted = {"virtio-id": 16, "num_vqs": 2, "vq_size": 256, "config_size": 20}
    device = _vhost("vhost-user-test-device-pci", backend, chardev, {**wanted, **props})
    if getattr(backend, "venus", False):
        device["root"] = "9p"
    return device


def in_process(**props):
    """QEMU's own virtio-gpu-gl-pci, for comparison; needs display=EGL_HEADLESS, which VM() picks for it."""
    return {"args": ["-device", _join("virtio-gpu-gl-pci", props)], "env": {"GBM_ALWAYS_SOFTWARE": "1"},
            "display": EGL_HEADLESS, "id": None}


def in_process_venus(hostmem="1G", **props):
    """QEMU's own virtio-gpu-gl-pci with Vulkan, on a host without /dev/udmabuf: the stand-in is preloaded."""
    device = {**in_process(venus="on", blob="on", hostmem=hostmem, **props), "root": "9p"}
    device["env"]["LD_PRELOAD"] = udmabuf_standin()
    return device


def _join(name, props):
    return ",".join([name] + ["%s=%s" % (k, v) for k, v in props.items()])


def _vhost(name, backend, chardev, props):
    device = {"env": {}, "id": "dev-" + chardev, "pass_fds": ()}
    if getattr(backend, "qemu_end", None):
        where = "fd=%d" % backend.qemu_end.fileno()
        device["pass_fds"], device["handed"] = (backend.qemu_end.fileno(),), backend.qemu_end.close
    else:
        where = "path=" + (backend if isinstance(backend, str) else backend.socket)
    device["args"] = ["-chardev", "socket,id=%s,%s" % (chardev, where),
                      "-device", _join(name, {"id": device["id"], "chardev": chardev, **props})]
    return device


FRONTENDS = {"gpu": gpu, "vga": vga, "generic": generic}
# glmark2's size is the mode's; asking for that very size makes it forget to make its window. With an alpha channel
# virtio-gpu's primary plane refuses its frames ("Failed to set crtc"), and it goes on measuring with nothing on screen.
GLMARK2 = ["glmark2-es2-drm", "--winsys-options", "drm-device=/dev/dri/card0", "--visual-config", "alpha=0"]
ONE_MODE = {"LD_PRELOAD": "/vgd/guest/onemode.so"}
EGL_HEADLESS = "egl-headless,rendernode=/dev/null"


# --- the accelerator ---

def pick_accel():
    """"kvm" if a guest has really booted under it here (a probe, once per kernel), else "tcg"."""
    wanted = os.environ.get("VGD_ACCEL")
    if wanted:
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    with open("/proc/sys/kernel/random/boot_id") as f:
        boot_id = f.read().strip()
    memory = places()["cache"] / ("accel-%s-%s" % (boot_id, places()["vmlinux"].parent.name))
    if not memory.exists():
        verdict = "tcg"
        try:
            with VM(device=None, accel="kvm", boot_timeout_s=8, memory="512M", cpus=1):
                verdict = "kvm"
        except Failure:
            pass
        memory.write_text(verdict)
    return memory.read_text()


class VM:
    """A guest under QEMU.

    device    what gpu(), vga(), generic() or in_process() gave; a list of them; or None
    qemu      "11.1" (forky) or "10.0" (trixie; setup --with-qemu10)
    display   -display's argument; default: what the device needs, else "none". "gtk,..." starts an Xvfb
    extra     further QEMU arguments;  env: further environment for QEMU;  append: further kernel arguments
    root      how the guest gets its root: "virtiofs" or "9p". Default: what the device wants, else virtiofs, which is
              faster. QEMU announces every map in a SHMEM window to each vhost-user device, virtiofsd too, and aborts at
              the 512th; 9p is served by QEMU itself
    The guest sees this checkout, read-only, as /vgd/src and its build folder as /vgd/build.
    """

    def __init__(self, device=None, qemu="11.1", display=None, memory="2G", cpus=2, accel=None, extra=(), env=None,
                 append="", boot_timeout_s=120, folder=None, root=None):
        devices = device if isinstance(device, (list, tuple)) else [device] if device else []
        self.devices, self.qemu, self.extra, self.append = list(devices), qemu, list(extra), append
        self.display = display or next((d["display"] for d in devices if "display" in d), "none")
        self.root = root or next((d["root"] for d in devices if "root" in d), "virtiofs")
        self.memory, self.cpus, self.boot_timeout_s = memory, cpus, boot_timeout_s
        self.accel = accel or pick_accel()
        self.env = {k: v for d in devices for k, v in d["env"].items()}
        self.env.update(env or {})
        self._own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="vgd-vm."))
        self.boot_s = None
        self._commands, self._next_id, self._hello = {}, 1, threading.Event()
        self._send_lock = threading.Lock()
        self._processes, self.process, self.qmp, self._port = [], None, None, None

    # starting and ending

    def start(self):
        begin = time.monotonic()
        try:
            self._start()
            self.wait_for_agent(self.boot_timeout_s)
        except BaseException:
            self.stop(keep=True)
            if self._own_folder:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.boot_s = time.monotonic() - begin
        return self

    def _start(self):
        p, f = places(), self.folder
        if self.qemu not in ("11.1", "10.0"):
            raise Failure("no QEMU %s here: 11.1 or 10.0" % self.qemu)
        root = p["sysroot"] if self.qemu == "11.1" else p["qemu10"]
        if not root.exists():
            raise Failure("QEMU %s is not set up: run guest/image/setup --with-qemu10" % self.qemu)
        # The guest's root: the folder itself, bound where the mounts of this namespace are not seen.
        share = ["%s:/vgd/share" % p["sysroot"], "%s:/vgd/share/vgd/guest" % p["guest"],
                 "%s:/vgd/share/vgd/src" % CHECKOUT, "%s:/vgd/share/vgd/build" % p["build"], "/tmp:/tmp"]
        binds = ["/tmp:/tmp", "%s:/vgd/guest" % p["guest"], "%s:/vgd/build" % p["build"]]
        append = ("init=/vgd/guest/agent console=ttyS0 quiet loglevel=4 mitigations=off nokaslr cryptomgr.notests "
                  "random.trust_cpu=on tsc=reliable panic=0 " + self.append)
        if self.root == "9p":
            binds = share + binds[1:]
            from_host = ["-initrd", "/vgd/guest/first-root", "-append", append, "-virtfs",
                         "local,path=/vgd/share,mount_tag=vgdroot,security_model=none,readonly=on,multidevs=remap"]
        else:
            self._processes.append(Process("virtiofsd", enter(
                ["/usr/libexec/virtiofsd", "--socket-path=%s/fs.sock" % f, "--shared-dir=/vgd/share", "--sandbox=none",
                 "--cache=always", "--readonly", "--log-level=error", "--inode-file-handles=never"],
                root=p["sysroot"], binds=share, bare=True), f / "virtiofsd.log"))
            from_host = ["-append", "root=vgdroot rootfstype=virtiofs ro " + append,
                         "-chardev", "socket,id=fs,path=%s/fs.sock" % f, "-device", "vhost-user-fs-pci,chardev=fs,tag=vgdroot"]
        env = dict(self.env)
        if self.display.startswith(("gtk", "sdl")):
            env.update(self._start_xvfb())
        if self.root == "virtiofs":
            wait_for(lambda: is_listening("%s/fs.sock" % f), 20, "virtiofsd's socket")
        accel = ["-accel", "kvm", "-cpu", "host"] if self.accel == "kvm" else \
                ["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]
        words = ["env"] + ["%s=%s" % i for i in env.items()] + [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-vga", "none", "-display", self.display,
            "-machine", "q35,memory-backend=m,usb=off,sata=off,vmport=off", *accel, "-smp", str(self.cpus),
            "-object", "memory-backend-memfd,id=m,size=%s,share=on" % self.memory, "-m", self.memory,
            "-kernel", "/vgd/guest/vmlinux", *from_host,
            "-serial", "file:%s/console.log" % f,
            "-chardev", "socket,id=exec,path=%s/exec.sock,server=on,wait=off" % f, "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=exec,name=vgd.exec",
            "-qmp", "unix:%s/qmp.sock,server=on,wait=off" % f]
        for device in self.devices:
            words += device["args"]
        self.process = Process("QEMU", enter(words + self.extra, root=root, binds=binds, bare=True), f / "qemu.log",
                               pass_fds=[fd for d in self.devices for fd in d.get("pass_fds", ())])
        self._processes.append(self.process)
        for device in self.devices:
            device.get("handed", lambda: None)()  # only QEMU holds its end now: its end is the connection's
        for name in ("qmp", "exec"):
            wait_for(lambda n=name: self._check_qemu() and is_listening("%s/%s.sock" % (f, n)), 60, "QEMU's sockets")
        self.qmp = Qmp("%s/qmp.sock" % f)
        self._port = socket.socket(socket.AF_UNIX)
        self._port.connect("%s/exec.sock" % f)
        threading.Thread(target=self._read_port, args=(self._port,), daemon=True).start()

    def _check_qemu(self):
        if not self.process.alive():
            raise Failure("QEMU ended with status %s:\n%s" % (self.process.popen.returncode, self.process.tail()))
        return True

    def _start_xvfb(self):
        read_end, write_end = os.pipe()
        xvfb = Process("Xvfb", enter(["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1280x1024x24", "-nolisten",
                                      "tcp", "-fbdir", str(self.folder)]), self.folder / "xvfb.log",
                       pass_fds=(write_end,))
        os.close(write_end)
        self._processes.append(xvfb)
        with os.fdopen(read_end) as f:
            number = f.readline().strip()
        if not number:
            raise Failure("Xvfb did not start:\n" + xvfb.tail())
        self._x_display = int(number)
        return {"DISPLAY": ":" + number, "GDK_BACKEND": "x11", "LIBGL_ALWAYS_SOFTWARE": "1"}

    def stop(self, keep=False):
        """Ends QEMU and what serves it; the folder goes too, unless keep."""
        for closable in (self.qmp, self._port):
            if closable:
                closable.close()
        for process in reversed(self._processes):
            process.stop()
        self._processes = []
        if self._own_folder and not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def quit(self, timeout_s=10):
        """Ends QEMU the way a user does, by its monitor; returns its exit status."""
        try:
            self.qmp("quit")
        except Failure:
            pass
        status = self.process.wait(timeout_s)
        if status is None:
            raise Failure("QEMU did not end within %g s of quit" % timeout_s)
        return status

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # the channel to the guest's agent

    def wait_for_agent(self, timeout_s=120):
        def ready():
            self._check_qemu()
            if "Kernel panic" in self.console:
                raise Failure("the guest's kernel panicked:\n" + self.console[-2000:])
            return self._hello.is_set()
        try:
            wait_for(ready, timeout_s, "the guest's agent")
        except Failure as e:
            raise Failure("%s\n--- the end of the guest's console:\n%s\n--- QEMU said:\n%s" % (
                e, self.console[-1500:], self.process.tail(10))) from None

    @property
    def console(self):
        try:
            return (self.folder / "console.log").read_text(errors="replace")
        except OSError:
            return ""

    def _read_port(self, port):
        buf, synced = b"", False
        while True:
            try:
                data = port.recv(262144)
            except OSError:
                data = b""
            if not data:
                break
            buf += data
            while True:
                at = buf.find(HELLO) if not synced or buf[:4] == HELLO[:4] else -1
                if not synced and at < 0:
                    buf = buf[-len(HELLO):]
                    break
                if at >= 0 and len(buf) >= at + len(HELLO):
                    # A new agent: nothing of what ran before is left.
                    buf, synced = buf[at + len(HELLO):], True
                    self._drop_commands()
                    self._hello.set()
                    continue
                if len(buf) < 9:
                    break
                length, ident = struct.unpack_from("<II", buf)
                if length > 1 << 20:
                    synced = False  # the guest was reset in the middle of a frame
                    continue
                if len(buf) < 9 + length:
                    break
                command = self._commands.get(ident)
                kind = buf[8:9]
                if command:
                    if kind in b"XF":
                        del self._commands[ident]
                    command._take(kind, buf[9:9 + length])
                buf = buf[9 + length:]
        self._drop_commands()

    def _drop_commands(self):
        for ident in list(self._commands):
            command = self._commands.pop(ident)
            command.result.status = None
            command.done.set()

    def _send(self, ident, kind, payload):
        with self._send_lock:
            try:
                self._port.sendall(struct.pack("<IIc", len(payload), ident, kind) + payload)
            except OSError as e:
                raise Failure("the guest's port is closed: %s" % e) from None

    def popen(self, argv, env=None, directory="", on_output=None):
        """Starts a command in the guest. on_output(is_stderr, bytes) is called as output comes."""
        env = ["%s=%s" % i for i in (env or {}).items()]
        strings = [str(a) for a in argv] + env + [directory]
        payload = struct.pack("<II", len(argv), len(env)) + b"".join(s.encode() + b"\0" for s in strings)
        ident, self._next_id = self._next_id, self._next_id + 1
        command = Command(self, ident, on_output)
        self._commands[ident] = command
        self._send(ident, b"R", payload)
        return command

    def run(self, argv, env=None, stdin=b"", timeout_s=60, check=False, directory="", on_output=None):
        """Runs a command in the guest and gives its Result; check: a status other than 0 is a Failure."""
        if isinstance(argv, str):
            argv = ["sh", "-c", argv]
        command = self.popen(argv, env, directory, on_output)
        if stdin:
            command.write(stdin)
        command.close_stdin()
        result = command.wait(timeout_s)
        if check and result.status != 0:
            raise Failure("in the guest, %s: %r" % (" ".join(map(str, argv)), result))
        return result

    def put(self, source, target, mode=0o755):
        """Copies a host's file (a path) or bytes into the guest."""
        data = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", target, "%o" % mode], stdin=data, check=True, timeout_s=300)

    def get(self, path, target=None):
        """A file of the guest as bytes; also written to target if given."""
        data = self.run(["cat", path], check=True, timeout_s=300).stdout
        if target:
            pathlib.Path(target).write_bytes(data)
        return data

    # the machine

    def screendump(self, target, device=None, head=0):
        """The screen as QEMU sees it, as a PNG."""
        path = self.folder / "screen.png"
        arguments = {"filename": str(path), "format": "png"}
        device = device or next((d["id"] for d in self.devices if d.get("id")), None)
        if device:
            arguments.update(device=device, head=head)
        self.qmp("screendump", timeout_s=30, **arguments)
        shutil.copyfile(path, target)
        return target

    def resize_window(self, width=1024, height=768):
        """For displays like "gtk,gl=on,show-menubar=off,keep-aspect-ratio=off": this large, nothing is scaled."""
        wait_for(lambda: xresize.resize_all(self._x_display, width, height), 20, "a window of QEMU's")

    def window(self):
        """The desktop that a gtk or sdl display is on: (width, height, rows of RGB bytes)."""
        return picture.read_xwd(self.folder / "Xvfb_screen0")

    def pause(self):
        self.qmp("stop", timeout_s=30)

    def resume(self):
        self.qmp("cont", timeout_s=30)

    def monitor_alive(self, timeout_s=2):
        """How long QEMU's monitor takes to answer, in seconds; a Failure if longer than the limit."""
        begin = time.monotonic()
        self.qmp("query-status", timeout_s=timeout_s)
        return time.monotonic() - begin

    def reset(self, timeout_s=120):
        """Presses the reset button, and waits until the guest is up again."""
        self._hello.clear()
        self.qmp("system_reset")
        self.wait_for_agent(timeout_s)

    def reboot(self, timeout_s=120):
        """Reboots from inside, drivers not asked, and waits until the guest is up again."""
        self._hello.clear()
        self._send(0, b"S", struct.pack("<I", 1))
        self.wait_for_agent(timeout_s)

    def renderer(self, timeout_s=60):
        """What the guest's GL says it is: {"renderer": ..., "version": ...}, from the picture program off screen."""
        result = self.run(["/vgd/guest/picture", "--offscreen"], timeout_s=timeout_s)
        lines = dict(line.split(": ", 1) for line in result.text.splitlines() if ": " in line)
        return {"renderer": lines.get("renderer", "none: " + result.errors.strip()), "version": lines.get("version", ""),
                "picture": lines.get("picture", ""), "status": result.status}

    def glmark2(self, scenes, offscreen=False, timeout_s=None, seconds=None, env=None):
        """Runs glmark2 scenes ("build" or "build:use-vbo=true") at 1024x768; gives {scene: frames per second}.

        scenes' order is kept. On the generic device only offscreen works. env: further environment.
        """
        scenes = [s + ":duration=%g" % seconds if seconds else s for s in scenes]
        argv = GLMARK2 + (["--off-screen"] if offscreen else []) + [w for s in scenes for w in ("-b", s)]
        result = self.run(argv, env={**ONE_MODE, **(env or {})}, timeout_s=timeout_s or 60 + 30 * len(scenes))
        found = re.findall(r"^\[(\w+)\].*?: FPS: (\d+)", result.text, re.M)
        told = result.text + result.errors
        if result.status != 0 or len(found) != len(scenes) or "1024x768" not in told or "Failed to set crtc" in told:
            raise Failure("glmark2 in the guest, status %s: %s ... %s" % (result.status, told[:600], told[-300:]))
        return {name: int(fps) for name, fps in found}

    def stuck_tasks(self, for_s=5):
        """Tasks in uninterruptible sleep for at least for_s seconds: ["PID NAME WCHAN"]."""
        script = ("for f in $(grep -sl '^State:.D' /proc/[0-9]*/task/[0-9]*/status); do d=${f%/status}; "
                  'echo "${d##*/} $(cat "$d/comm") $(cat "$d/wchan")"; done')

        def sample():
            return set(self.run(["sh", "-c", script], timeout_s=60, check=True).text.splitlines())
        end = time.monotonic() + for_s
        stuck = sample()
        while stuck and time.monotonic() < end:
            time.sleep(0.5)
            stuck &= sample()
        return sorted(stuck)
