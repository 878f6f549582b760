"""What the end-to-end tests share: a guest on vgd in one line, checks, skips, time limits."""
import contextlib
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "guest" / "image"))

import picture  # noqa: E402
import vm as vgd_vm  # noqa: E402
from vm import Failure  # noqa: E402


class Skip(Exception):
    """The test cannot run here: says why."""


def limit(seconds):
    """The test may take this long (120 s otherwise)."""
    def mark(function):
        function.limit_s = seconds
        return function
    return mark


def long(function):
    """Takes minutes: runs when it is named, or with VGD_LONG=1; otherwise counted as skipped."""
    function.long = True
    return function


def check(condition, text):
    if not condition:
        raise Failure(text)


@contextlib.contextmanager
def guest(frontend="gpu", qemu="11.1", virgl=True, venus=False, hostmem=None, backend_env=None, backend_args=(),
          by_fd=False, **options):
    """A backend and a guest on it: yields (vm, backend). At the end both are gone; a failure shows their logs.

    venus: with Vulkan, in a host-visible window of hostmem ("1G").

    VGD_E2E_BACKEND=contrib runs the tests on QEMU's own backend, to see which of them a peer passes.
    """
    with vgd_vm.Backend(os.environ.get("VGD_E2E_BACKEND", "vgd"), virgl=virgl, venus=venus, hostmem=hostmem,
                        args=backend_args, env=backend_env, by_fd=by_fd) as backend:
        machine = vgd_vm.VM(vgd_vm.FRONTENDS[frontend](backend), qemu=qemu, **options)
        try:
            machine.start()
            yield machine, backend
        except Failure as e:
            raise Failure("%s\n--- vgd's log:\n%s\n--- QEMU's:\n%s\n--- the guest's console:\n%s" % (
                e, backend.process.tail(15), machine.process.tail(5) if machine.process else "",
                machine.console[-600:])) from e
        finally:
            machine.stop()


def check_rendering(machine):
    """The guest draws through us, off screen, and every pixel is right."""
    seen = machine.renderer()
    check(seen["renderer"].startswith("virgl"), "the guest's renderer is %s" % seen["renderer"])
    check(seen["status"] == 0, "the picture is wrong: %s" % seen["picture"])


def check_screen(machine, renderer="virgl"):
    """The guest draws on its screen, and QEMU has the right pixels."""
    command = machine.popen(["/vgd/guest/picture", "--hold"])
    command.wait_for_output("holding", 60)
    check("renderer: " + renderer in command.result.text, "not drawn by %s: %s" % (renderer, command.result.text))
    path = machine.folder / "check.png"
    wrong, told = vgd_vm.wait_for(lambda: _compared(machine, path), 5, "the picture on the screen", 0.3)
    command.close_stdin()
    result = command.wait(30)
    check(result.status == 0, "the picture program: %r" % result)
    return told


def _compared(machine, path):
    machine.screendump(path)
    wrong, told = picture.compare(path)
    if wrong:
        _compared.last = told
        return None
    return wrong, told


def check_no_stuck_tasks(machine):
    stuck = machine.stuck_tasks()
    check(not stuck, "tasks of the guest in D state for 5 s: %s" % "; ".join(stuck))


def check_monitor(machine):
    seconds = machine.monitor_alive(timeout_s=5)
    check(seconds < 2, "QEMU's monitor took %.1f s" % seconds)


def start_drawing(machine, seconds, offscreen=False):
    """The picture, frame after frame, checked each time; returns when the first second's frames are done."""
    argv = ["/vgd/guest/picture", "--loop", str(seconds)] + (["--offscreen"] if offscreen else [])
    command = machine.popen(argv)
    command.wait_for_output("frames: ", 30)
    return command


def frames(command):
    lines = [line for line in command.result.text.splitlines() if line.startswith("frames: ")]
    return int(lines[-1].split()[1]) if lines else 0


def check_progress(command, timeout_s=20):
    """The drawing goes on."""
    before = frames(command)
    vgd_vm.wait_for(lambda: frames(command) > before or command.done.is_set(), timeout_s, "another frame")
    check(frames(command) > before, "drawing ended: %r" % command.result)


def alive(pids):
    found = []
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid) as f:
                if f.read().rpartition(")")[2].split()[0] != "Z":
                    found.append(pid)
        except OSError:
            pass
    return found


def check_all_end(pids, timeout_s=5):
    end = time.monotonic() + timeout_s
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    left = ["%d (%s)" % (pid, vgd_vm.comm(pid)) for pid in alive(pids)]
    check(not left, "still there %g s after QEMU: %s" % (timeout_s, ", ".join(left)))
