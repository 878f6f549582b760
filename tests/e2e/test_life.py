"""Pauses, reboots, several guests, and the death of every process in turn."""
import os
import signal
import threading
import time

from support import (check, check_all_end, check_monitor, check_no_stuck_tasks, check_progress,
                     check_rendering, check_screen, frames, guest, limit, long, start_drawing, vgd_vm)


def test_pause_and_resume_while_rendering():
    with guest() as (machine, _):
        drawing = start_drawing(machine, 25)
        for _ in range(5):
            machine.pause()
            time.sleep(0.3)
            before = frames(drawing)
            time.sleep(0.7)
            check(frames(drawing) == before, "frames arrive from a paused guest")
            check_monitor(machine)
            machine.resume()
            check_progress(drawing)
        result = drawing.wait(60)
        check(result.status == 0, "drawing across pauses: %r" % result)
        check_screen(machine)
        check_no_stuck_tasks(machine)


@limit(240)
def test_ten_reboots_leave_nothing():
    with guest() as (machine, backend):
        fds, memory, worker_fds, worker_memory = [], [], [], []
        for i in range(10):
            # Turn about: the reset button, and a reboot from inside, in the middle of drawing.
            drawing = start_drawing(machine, 60)
            machine.reset() if i % 2 else machine.reboot()
            check(drawing.wait(5).status is None, "the command survived a reboot")
            check_rendering(machine)
            worker = backend.worker()
            fds.append(vgd_vm.fd_count(backend.pid))
            memory.append(vgd_vm.private_dirty_kib(backend.pid))
            worker_fds.append(vgd_vm.fd_count(worker))
            worker_memory.append(vgd_vm.private_dirty_kib(worker))
        check_screen(machine)
        print("       supervisor: fds %s, KiB %s; worker: fds %s, KiB %s" % (fds, memory, worker_fds, worker_memory))
        check(fds[1] == fds[9], "the supervisor's fds, reboot by reboot: %s" % fds)
        check(worker_fds[1] == worker_fds[9], "the worker's fds, reboot by reboot: %s" % worker_fds)
        check(memory[9] - memory[1] <= 2048, "the supervisor's KiB, reboot by reboot: %s" % memory)
        check(backend.process.alive(), "the supervisor ended")


@limit(180)
def test_two_guests_at_once():
    failures = []

    def one(frontend):
        try:
            with guest(frontend, memory="1G") as (machine, _):
                drawing = start_drawing(machine, 10)
                result = drawing.wait(60)
                check(result.status == 0, "drawing beside another guest: %r" % result)
                check_screen(machine)
                check_no_stuck_tasks(machine)
        except BaseException as e:
            failures.append("%s: %s" % (frontend, e))
    threads = [threading.Thread(target=one, args=(frontend,)) for frontend in ("gpu", "vga")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, "\n".join(failures))


def kill_worker(backend):
    """SIGKILL to the worker; seconds until there is another."""
    old = backend.worker()
    begin = time.monotonic()
    os.kill(old, signal.SIGKILL)
    vgd_vm.wait_for(lambda: [p for p in backend.children("vgd-worker") if p != old], 5, "another worker", 0.005)
    return time.monotonic() - begin


def check_device_is_back(machine, backend):
    """New GL programs draw right again, at once, and nothing of the guest hangs."""
    end = time.monotonic() + 20
    while True:
        seen = machine.renderer()
        if seen["renderer"].startswith("virgl") and seen["status"] == 0:
            break
        check(time.monotonic() < end, "after the worker's death: %s" % seen)
        time.sleep(0.5)
    check(backend.process.alive(), "the supervisor ended")
    check_monitor(machine)


def test_worker_killed_while_rendering():
    with guest() as (machine, backend):
        drawing = start_drawing(machine, 20)
        seconds = kill_worker(backend)
        check(seconds < 1, "another worker after %.2f s" % seconds)
        check_monitor(machine)
        # Its context is lost: what it draws from here on is wrong, but it must come to its end.
        result = drawing.wait(40)
        check(not result.timed_out, "the program hangs after the worker's death: %s" % machine.stuck_tasks())
        check_no_stuck_tasks(machine)
        check_device_is_back(machine, backend)
        check_screen(machine)
        check(machine.glmark2(["build"], seconds=1)["build"] > 5, "glmark2 is slow after the worker's death")


def last_round(program, word):
    """The last round of queries that the program asked, or had answered."""
    lines = [line for line in program.result.text.splitlines() if line.startswith(word + " ")]
    return int(lines[-1].split()[1].rstrip(":")) if lines else 0


def check_answered(program, mode, round_asked, end):
    """That round's queries are answered, or the program ended, before the monotonic time end."""
    while last_round(program, "answered") < round_asked and not program.done.is_set():
        check(time.monotonic() < end, "the program that %s queries hangs: asked %d, answered %d" % (
            mode, last_round(program, "asked"), last_round(program, "answered")))
        time.sleep(0.02)


@limit(240)
def test_worker_killed_while_queries_are_awaited():
    """A GL client that spins on a query, or blocks in one, goes on or ends within 5 s of the worker's death."""
    modes = {"spins on": [], "blocks in": ["--wait"]}
    slow = ["--load", "200"]  # a round takes the GPU long enough to be killed in the middle
    with guest() as (machine, backend):
        died, seconds = 0, []
        for moment in ("any moment", "the GPU is at it", "the command waits in the ring"):
            time.sleep(max(0, died + 11 - time.monotonic()))  # one death is the subject, not a crash loop
            programs = {mode: machine.popen(["/vgd/guest/query"] + words + (slow if "GPU" in moment else []))
                        for mode, words in modes.items()}
            for program in programs.values():
                program.wait_for_output("answered 2:", 40)
            if "ring" in moment:
                os.kill(backend.worker(), signal.SIGSTOP)
                time.sleep(0.5)
            if moment != "any moment":
                vgd_vm.wait_for(lambda: all(last_round(p, "asked") > last_round(p, "answered")
                                            for p in programs.values()), 20, "outstanding queries", 0.001)
            outstanding = {mode: last_round(p, "asked") for mode, p in programs.items()}
            died = time.monotonic()
            kill_worker(backend)
            for mode, program in programs.items():
                check_answered(program, mode, outstanding[mode], died + 5)
            seconds.append("%.2f s (%s)" % (time.monotonic() - died, moment))
            time.sleep(0.3)  # what was printed before the death is here now
            asked = {mode: last_round(p, "asked") for mode, p in programs.items()}
            for mode, program in programs.items():
                check_answered(program, mode, asked[mode] + 10, died + 5)
            check_monitor(machine)
            check_no_stuck_tasks(machine)
            for mode, program in programs.items():
                program.kill(signal.SIGTERM)
            for mode, program in programs.items():
                result = program.wait(5)
                check(not result.timed_out, "the program that %s queries does not end: %r" % (mode, result.errors))
            check_device_is_back(machine, backend)
        print("       queries answered after the death: %s" % ", ".join(seconds))
        check_screen(machine)


def check_text_arrives(machine):
    """What the guest writes on its text console is seen."""
    machine.run("echo 0 > /sys/class/graphics/fbcon/cursor_blink", check=True)
    time.sleep(0.5)
    path = machine.folder / "text.png"
    before = machine.screendump(path).read_bytes()
    machine.run("printf 'four five six\\n' > /dev/tty0", check=True)
    vgd_vm.wait_for(lambda: machine.screendump(path).read_bytes() != before, 5, "new text on the screen", 0.2)


def test_worker_killed_console_returns():
    """2D resources and the scanout come back with their pixels: the text console looks as before."""
    with guest() as (machine, backend):
        machine.run("echo 0 > /sys/class/graphics/fbcon/cursor_blink; printf 'one two three\\n\\n' > /dev/tty0", check=True)
        time.sleep(1)
        before, after = machine.folder / "before.png", machine.folder / "after.png"
        machine.screendump(before)
        check(before.stat().st_size > 1500, "the console is empty")
        kill_worker(backend)
        vgd_vm.wait_for(lambda: machine.screendump(after).read_bytes() == before.read_bytes(), 3, "the same console", 0.2)
        check_text_arrives(machine)  # the console was not only kept by QEMU
        check_device_is_back(machine, backend)


def test_worker_killed_on_the_generic_device():
    with guest("generic") as (machine, backend):
        drawing = start_drawing(machine, 10, offscreen=True)
        kill_worker(backend)
        check(not drawing.wait(40).timed_out, "the program hangs after the worker's death")
        check_no_stuck_tasks(machine)
        check_device_is_back(machine, backend)


def test_worker_killed_then_pause_and_reboot():
    """A new worker obeys the rest of the session: stop, continue, reset."""
    with guest() as (machine, backend):
        start_drawing(machine, 30)
        kill_worker(backend)
        machine.pause()
        check_monitor(machine)
        machine.resume()
        machine.reset()
        check_rendering(machine)
        check_screen(machine)


@limit(200)
def test_crash_loop_ends_in_2d():
    """A worker that dies again and again is held back, then comes back without 3D; the guest's screen works."""
    with guest() as (machine, backend):
        for _ in range(40):
            if not backend.process.alive():
                break
            for pid in backend.children("vgd-worker"):
                os.kill(pid, signal.SIGKILL)
            check_monitor(machine)
            time.sleep(0.5)
        check(backend.process.alive(), "the supervisor ended")
        vgd_vm.wait_for(lambda: "software 2D" in backend.log and backend.children("vgd-worker"), 30, "a 2D worker")
        check_text_arrives(machine)
        # A guest that starts afresh gets what the device can do by then.
        machine.reset(timeout_s=150)
        check_monitor(machine)
        check_screen(machine, renderer="")


def test_quit_ends_everything():
    with guest() as (machine, backend):
        start_drawing(machine, 30)
        family = backend.process.family()
        check(len(family) >= 2, "no worker: %s" % family)
        machine.quit()
        check_all_end(family)


def test_killed_qemu_ends_everything():
    with guest() as (machine, backend):
        start_drawing(machine, 30)
        family = backend.process.family()
        os.kill(machine.process.pid, signal.SIGKILL)
        check_all_end(family)


def test_sigterm_ends_everything():
    with guest() as (machine, backend):
        start_drawing(machine, 30)
        family = backend.process.family()
        os.kill(backend.pid, signal.SIGTERM)
        check_all_end(family, 3)


@long
@limit(3600)
def test_hundred_deaths():
    """100 SIGKILLs while the guest renders, each more than 10 s after the last: no fd more, at most 2 MiB more.

    VGD_DEATHS=20 for fewer.
    """
    deaths = int(os.environ.get("VGD_DEATHS", "100"))
    check(deaths >= 2, "VGD_DEATHS must be 2 or more")
    with guest() as (machine, backend):
        fds, memory, seconds = [], [], []
        for i in range(deaths):
            drawing = start_drawing(machine, 8)
            seconds.append(kill_worker(backend))
            check_monitor(machine)
            check(not drawing.wait(40).timed_out, "death %d: the program hangs" % i)
            check_device_is_back(machine, backend)
            time.sleep(3)
            fds.append(vgd_vm.fd_count(backend.pid))
            memory.append(vgd_vm.private_dirty_kib(backend.pid))
        check_no_stuck_tasks(machine)
        seconds.sort()
        print("       another worker after %.3f s (median), %.3f s (longest); fds %s; KiB %d to %d, at most %d" % (
            seconds[deaths // 2], seconds[-1], sorted(set(fds)), memory[1], memory[-1], max(memory)))
        check(fds[1] == fds[-1], "the supervisor's fds: %s" % fds)
        check(memory[-1] - memory[1] <= 2048, "the supervisor's KiB: %s" % memory)
