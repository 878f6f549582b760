"""A guest that draws is recorded, and does not notice."""
import json
import os
import re
import resource
import signal
import tempfile
import time

from support import (check, check_progress, check_rendering, check_screen, frames, guest, limit, start_drawing,
                     vgd_vm)


def told(result):
    return "status %d: %s%s" % (result.returncode, result.stdout[-1500:], result.stderr[-500:])


def status(backend):
    """What "vgdctl trace status" tells, as a dictionary; None: nothing has been recorded."""
    result = backend.ctl("trace", "status", "--json")
    check(result.returncode == 0, "vgdctl trace status: " + told(result))
    return json.loads(result.stdout)


def read(backend, path, *filters):
    """The lines of vgd-trace print; the file has to be whole."""
    result = backend.trace("print", *filters, path)
    check(result.returncode == 0, "vgd-trace print: " + told(result))
    return result.stdout.splitlines()


def count(lines, word):
    return sum(1 for line in lines if " %s " % word in line + " ")


def test_record_in_mid_life():
    """vgdctl trace start, some seconds of drawing, stop: the guest goes on, and vgd-trace reads the file."""
    with guest() as (machine, backend):
        path = str(machine.folder / "guest.vgdtrace")
        check(status(backend) is None, "nothing has been recorded yet")
        drawing = start_drawing(machine, 20)
        before = backend.worker()
        result = backend.ctl("trace", "start", path)
        check(result.returncode == 0, "vgdctl trace start: " + told(result))
        check_progress(drawing)
        time.sleep(4)
        check_progress(drawing)
        seen = status(backend)
        check(seen["state"] == "running" and seen["records"] > 0 and seen["bytes_out"] > 0, "while it runs: %s" % seen)
        check(seen["memory_bytes"] <= 64 << 20, "memory: %s" % seen)
        result = backend.ctl("trace", "stop", "--json")
        check(result.returncode == 0 and json.loads(result.stdout)["state"] == "ended", "stop: " + told(result))
        size = os.stat(path).st_size
        check_progress(drawing)
        check(drawing.wait(60).status == 0, "drawing while recorded: %r" % drawing.result)
        check(os.stat(path).st_size == size, "it was written after the stop")
        check(os.stat(path).st_mode & 0o777 == 0o600, "others may read it")
        info = backend.trace("info", path)
        check(info.returncode == 0, "vgd-trace info: " + told(info))
        submits = count(read(backend, path, "--command", "SUBMIT_3D"), "COMMAND")
        flushes = count(read(backend, path, "--command", "RESOURCE_FLUSH"), "COMMAND")
        check(submits > 0 and flushes > 0, "%d submits, %d flushes" % (submits, flushes))
        result = backend.trace("stats", path)
        check(result.returncode == 0, "vgd-trace stats: " + told(result))
        print("       %.1f s, %d records, %d submits, %d flushes, %d KiB" % (
            seen["seconds"], seen["records"], submits, flushes, size >> 10))
        check_screen(machine)
        check(backend.worker() == before, "the worker is another")


@limit(240)
def test_record_from_boot_over_a_reboot():
    """vgd --record: one file from the first command to the last, over the guest's boots; the VMM's end ends it."""
    with tempfile.TemporaryDirectory(prefix="vgd-record.") as folder:
        path = os.path.join(folder, "guest.vgdtrace")
        with guest(backend_args=["--record=" + path]) as (machine, backend):
            check_screen(machine)
            seen = status(backend)
            check(seen["state"] == "running", "from the beginning on: %s" % seen)
            machine.reset()
            check_rendering(machine)
            check_screen(machine)
            # A crash of the worker in the middle: the console comes back, the file goes on.
            old = backend.worker()
            os.kill(old, signal.SIGKILL)
            vgd_vm.wait_for(lambda: [p for p in backend.children("vgd-worker") if p != old], 10, "another worker")
            check_rendering(machine)
            check(status(backend)["state"] == "running", "after a death: %s" % status(backend))
            machine.quit()
            vgd_vm.wait_for(lambda: not backend.process.alive(), 10, "vgd's end")
            check(re.search("the recording ended: [1-9]", backend.log), "it was not ended: " + backend.log[-1500:])
            info = backend.trace("info", path)
            check(info.returncode == 0, "vgd-trace info: " + told(info))
            lines = read(backend, path)
            ends, deaths, resets = (count(lines, word) for word in ("END", "WORKER_DEATH", "RESET"))
            check(ends == 1 and deaths == 1 and resets >= 1, "%d ends, %d deaths, %d resets" % (ends, deaths, resets))
            print("       %d records, %d KiB" % (len(lines), os.stat(path).st_size >> 10))


def test_record_ends_with_a_full_disk():
    """A recording that its file does not take ends; the guest draws on."""
    with guest() as (machine, backend):
        path = str(machine.folder / "guest.vgdtrace")
        drawing = start_drawing(machine, 15)
        worker = backend.worker()
        check(backend.ctl("trace", "start", path, "--pictures", "0").returncode == 0, "trace start")
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))
        seen = vgd_vm.wait_for(lambda: (lambda s: s if s["state"] == "failed" else None)(status(backend)), 20,
                               "the recording's failure")
        check("may not grow" in seen["why"], "why: %s" % seen)
        check_progress(drawing)
        check(drawing.wait(60).status == 0, "drawing: %r" % drawing.result)
        check(backend.worker() == worker, "the worker is another")
        check(backend.trace("info", path).returncode in (0, 1), "what was written cannot be read")
        check(frames(drawing) > 0, "no frames")
