"""Vulkan in the guest, on stock QEMU 11.1's generic device: what runs, and what its defects D1-D6 must not break.

The defects are described in qemu-patches/README.md and docs/guide-frontends.md. QEMU's vhost-user-gpu-pci,hostmem= is not
released yet: the user-space guest stands in for it (vgd-probe).
"""
import json
import os
import signal
import threading
import time

import venus
from support import (Skip, check, check_all_end, check_monitor, check_no_stuck_tasks, check_rendering, check_screen,
                     guest, limit, long, picture, start_drawing, vgd_vm)

# A Vulkan program of the guest keeps a few maps for its own ring and replies.
MAPS_OF_A_PROGRAM = 4


def vulkan_guest(**options):
    return guest("generic", venus=True, **options)


def run(machine, argv, env=venus.ONLY_VENUS, timeout_s=90):
    """A program of the guest that must come to its end and find everything right."""
    result = machine.run(argv, env=env, timeout_s=timeout_s)
    check(result.status == 0, "%s: %r" % (argv[0], result))
    return result


def check_vulkan(machine):
    run(machine, [venus.VK_COMPUTE])


def check_picture(machine, argv, env, drawn_by):
    """The picture that a program of the guest drew: right to itself, and to us."""
    result = run(machine, argv + ["--out", "/tmp/picture.ppm"], env=env)
    check(drawn_by in result.text, "not drawn by %s: %s" % (drawn_by, result.text))
    raw, path = machine.folder / "picture.ppm", machine.folder / "picture.png"
    machine.get("/tmp/picture.ppm", raw)
    picture.write_png(path, *picture.read_ppm(raw))
    wrong, told = picture.compare(path)
    check(wrong == 0, told)


def check_nothing_left(machine, backend):
    """No context and no map is left when no Vulkan program runs."""
    vgd_vm.wait_for(lambda: not backend.contexts(), 10, "the end of every Vulkan context")
    check(venus.maps(machine) == 0, "%d maps left in the guest" % venus.maps(machine))


def check_well(machine, backend):
    check_monitor(machine)
    check_no_stuck_tasks(machine)
    check(backend.process.alive(), "the supervisor ended")


# --- what ./demo --vulkan shows ---

def test_vulkan():
    with vulkan_guest() as (machine, backend):
        device = venus.devices(machine)[0]
        check(device["driverID"] == "DRIVER_ID_MESA_VENUS", "the Vulkan driver is %s" % device)
        check_vulkan(machine)
        check_picture(machine, [venus.VK_PICTURE], venus.ONLY_VENUS, "driver: venus")
        check_nothing_left(machine, backend)
        check_well(machine, backend)
        family = backend.process.family()
        machine.quit()
        check_all_end(family)


def test_vulkan_vkmark():
    with vulkan_guest() as (machine, backend):
        if machine.run(["which", "vkmark"]).status != 0:
            raise Skip("the guest was made without vkmark")
        rates = venus.vkmark(machine, venus.SCENES, seconds=1)
        check(all(rate > 5 for rate in rates.values()), "vkmark's frames per second: %s" % rates)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


def test_vulkan_opengl_by_zink():
    with vulkan_guest() as (machine, backend):
        env = venus.on_zink(venus.devices(machine)[0])
        check_picture(machine, ["/vgd/guest/picture", "--offscreen"], env, "renderer: zink")
        rates = machine.glmark2(["build", "texture"], offscreen=True, seconds=1, env=env)
        check(all(rate > 5 for rate in rates.values()), "glmark2's frames per second by zink: %s" % rates)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


@limit(240)
def test_vulkan_opencl_by_rusticl():
    with vulkan_guest() as (machine, backend):
        if machine.run(["ls", "/etc/OpenCL/vendors/rusticl.icd"]).status != 0:
            raise Skip("the guest's Mesa has no rusticl")
        env = venus.on_zink(venus.devices(machine)[0])
        result = run(machine, [venus.CL_COMPUTE, "Venus"], env=env, timeout_s=180)
        check("device: zink" in result.text, "OpenCL by %s" % result.text)
        check_nothing_left(machine, backend)


@limit(240)
def test_vulkan_not_passed_on():
    """QEMU's vhost-user-gpu passes no Vulkan on before 11.2: the guest has OpenGL and a screen, and vgd's log says why no more."""
    for qemu in ("11.1", "10.0"):
        with guest("gpu", qemu, venus=True) as (machine, backend):
            check_rendering(machine)
            check_screen(machine)
            result = machine.run(["vulkaninfo", "--summary"], env=venus.ONLY_VENUS)
            check("DRIVER_ID_MESA_VENUS" not in result.text, "Vulkan on QEMU %s: %r" % (qemu, result))
            check(backend.log.count("the guest's driver takes no Vulkan") == 1, "nothing in vgd's log tells the user why")
            check_well(machine, backend)


# --- maps, pauses, reboots: D1 to D6 ---

def start_maps(machine, live, *more):
    """vk-maps with so many live maps, holding them."""
    program = venus.start(machine, [venus.VK_MAPS, "--live", str(live), "--hold", *more])
    program.wait_for_output("holding", 60)
    check("%d allocations, 0 wrong" % live in program.result.text, "the maps: %r" % program.result)
    return program


def verify_maps(program, times):
    """The contents of all its maps are right, for processor and GPU, for the times-th time."""
    program.write(b"verify\n")
    program.wait_for_output("verified %d:" % times, 60)
    check("verified %d: 0 wrong" % times in program.result.text, "the maps' contents: %r" % program.result)


def end_maps(program):
    program.close_stdin()
    result = program.wait(60)
    check(result.status == 0, "vk-maps: %r" % result)


@limit(180)
def test_vulkan_thousand_maps_and_reboots():
    """1,000 maps at once, right for processor and GPU; then a reset and a reboot in the middle of them."""
    with vulkan_guest() as (machine, backend):
        for restart in (machine.reset, machine.reboot):
            program = start_maps(machine, 1000)
            live = venus.maps(machine)
            check(live > 1000, "only %d maps are live" % live)
            verify_maps(program, 1)
            check_monitor(machine)
            restart()
            check(program.wait(5).status is None, "the program survived a reboot")
            check_vulkan(machine)
            check_nothing_left(machine, backend)
        program = start_maps(machine, 1000)
        end_maps(program)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


@limit(180)
def test_vulkan_pause_with_few_maps():
    """A pause and the way back with maps that fit into QEMU's memory table."""
    with vulkan_guest() as (machine, backend):
        program = start_maps(machine, 1)
        check(venus.maps(machine) <= MAPS_OF_A_PROGRAM + 2, "%d maps" % venus.maps(machine))
        for i in range(5):
            machine.pause()
            check_monitor(machine)
            machine.resume()
            verify_maps(program, i + 1)
        end_maps(program)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


def stop_and_cont(machine):
    machine.pause()
    check_monitor(machine)
    machine.resume()
    check_monitor(machine)


def status(backend):
    """What vgdctl status tells."""
    result = backend.ctl("status", "--json")
    check(result.returncode == 0, "vgdctl status: %s" % result)
    return json.loads(result.stdout)


def window(backend):
    return status(backend)["session"]["window"]


@limit(180)
def test_vulkan_pause_with_many_maps():
    """20 maps are more than stock QEMU can start the device with: vgd puts them aside and back, contents kept."""
    with vulkan_guest() as (machine, backend):
        program = start_maps(machine, 20)
        live = window(backend)["live"]
        for i in range(3):
            stop_and_cont(machine)
            vgd_vm.wait_for(lambda: 0 < window(backend)["live"] < 8, 15, "room in QEMU's memory table", 0.1)
            check("put aside" in backend.log, "nothing in vgd's log tells the user what to do")
            stop_and_cont(machine)
            vgd_vm.wait_for(lambda: window(backend)["live"] == live, 15, "every map in its place", 0.1)
            verify_maps(program, i + 1)
        end_maps(program)
        check_vulkan(machine)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


@limit(240)
def test_vulkan_no_map_during_a_stop():
    """Pauses while a program maps and unmaps all the time: QEMU lives through each, and all contents are right."""
    with vulkan_guest() as (machine, backend):
        for share in (0.05, 0.2):
            program = venus.start(machine, [venus.VK_MAPS, "--live", "0", "--churn", "12"])
            program.wait_for_output("cycles: ", 40)
            for _ in range(10):
                machine.pause()
                check_monitor(machine)
                time.sleep(share)
                machine.resume()
                time.sleep(share)
            for _ in range(5):  # a start that failed for too many maps is mended by another
                if program.done.wait(3):
                    break
                stop_and_cont(machine)
            result = program.wait(40)
            check(result.status == 0, "vk-maps across pauses: %r" % result)
        check_vulkan(machine)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


def footprint(backend, machine):
    """(descriptors, KiB of own memory) of the supervisor, of the worker, and QEMU's descriptors."""
    worker = backend.worker()
    return {"supervisor's fds": vgd_vm.fd_count(backend.pid), "worker's fds": vgd_vm.fd_count(worker),
            "QEMU's fds": vgd_vm.fd_count(machine.process.pid),
            "KiB": vgd_vm.private_dirty_kib(backend.pid) + vgd_vm.private_dirty_kib(worker)}


@limit(300)
def test_vulkan_thousand_cycles_leave_nothing():
    with vulkan_guest() as (machine, backend):
        seen = []
        for wanted in (1, 1000):
            cycles = 0
            while cycles < wanted:  # how many it makes in a time depends on the machine
                result = run(machine, [venus.VK_MAPS, "--live", "50", "--churn", "2" if wanted == 1 else "15"])
                made = int(result.text.split("churn: ")[1].split()[0])
                check(made > 0, "no cycle at all: %s" % result.text)
                cycles += made
            check_nothing_left(machine, backend)
            seen.append(footprint(backend, machine))
        print("       %d cycles; %s, then %s" % (cycles, seen[0], seen[1]))
        for name in ("supervisor's fds", "worker's fds", "QEMU's fds"):
            check(seen[0][name] == seen[1][name], "%s: %s" % (name, seen))
        check(seen[1]["KiB"] - seen[0]["KiB"] <= 2048, "memory: %s" % seen)


# --- several at once ---

@limit(240)
def test_vulkan_two_guests_at_once():
    failures = []

    def one(name):
        try:
            with vulkan_guest(memory="1G") as (machine, backend):
                run(machine, [venus.VK_COMPUTE, "--loop", "5"], timeout_s=120)
                run(machine, [venus.VK_PICTURE, "--loop", "3"], timeout_s=120)
                check_nothing_left(machine, backend)
                check_well(machine, backend)
        except BaseException as e:
            failures.append("%s: %s" % (name, e))
    threads = [threading.Thread(target=one, args=("guest %d" % i,)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, "\n".join(failures))


@limit(180)
def test_vulkan_beside_opengl():
    """Vulkan, OpenGL by virgl and OpenGL by zink at the same time in one guest."""
    with vulkan_guest() as (machine, backend):
        zink = venus.on_zink(venus.devices(machine)[0])
        opengl = start_drawing(machine, 12, offscreen=True)
        check("renderer: virgl" in opengl.result.text, "OpenGL by %s" % opengl.result.text)
        by_zink = machine.popen(["/vgd/guest/picture", "--offscreen", "--loop", "8"], env=zink)
        run(machine, [venus.VK_COMPUTE, "--loop", "4"])
        run(machine, [venus.VK_PICTURE, "--loop", "2"])
        for program in (opengl, by_zink):
            result = program.wait(60)
            check(result.status == 0, "OpenGL beside Vulkan: %r" % result)
        check("renderer: zink" in by_zink.result.text, "OpenGL by %s" % by_zink.result.text)
        check_nothing_left(machine, backend)
        check_well(machine, backend)


# --- deaths ---

def start_vkmark(machine):
    program = machine.popen(venus.VKMARK + ["-b", "vertex:duration=60"], env=venus.ONLY_VENUS)
    # Its first line comes when it has a device; then it draws.
    program.wait_for_output("Virtio-GPU Venus", 40)
    time.sleep(1)
    check(not program.done.is_set(), "vkmark: %r" % program.result)
    return program


def check_vulkan_is_back(machine, backend, within_s=25):
    """The next Vulkan program works, at once or soon."""
    end = time.monotonic() + within_s
    while True:
        result = machine.run([venus.VK_COMPUTE], env=venus.ONLY_VENUS, timeout_s=within_s)
        if result.status == 0:
            break
        check(time.monotonic() < end, "Vulkan after the death: %r" % result)
        time.sleep(0.5)
    check_well(machine, backend)


def killed(machine, backend, pid):
    """SIGKILL to pid while vkmark runs. Returns how long vkmark took to end."""
    program = start_vkmark(machine)
    begin = time.monotonic()
    os.kill(pid(), signal.SIGKILL)
    check_monitor(machine)
    result = program.wait(30)
    check(not result.timed_out, "vkmark hangs after the death: %s" % machine.stuck_tasks())
    check(result.status != 0, "vkmark lost its device and says nothing")
    seconds = time.monotonic() - begin
    check_monitor(machine)
    return seconds


@limit(180)
def test_vulkan_context_killed():
    """A context's process dies: that context is lost, and told; nothing else is."""
    with vulkan_guest() as (machine, backend):
        before = status(backend)
        other = venus.start(machine, [venus.VK_COMPUTE, "--loop", "20"])
        other.wait_for_output("rounds: ", 40)
        others = backend.contexts()

        def newest():
            return next(p for p in backend.contexts() if p not in others)
        seconds = killed(machine, backend, newest)
        after = status(backend)
        print("       vkmark ended after %.1f s" % seconds)
        check(after["device"]["contexts_lost"] == before["device"]["contexts_lost"] + 1,
              "contexts lost, by vgdctl status: %s" % after["device"])
        check(after["worker"]["deaths"] == before["worker"]["deaths"], "the worker died too: %s" % after["worker"])
        check_vulkan_is_back(machine, backend)
        result = other.wait(60)
        check(result.status == 0, "the program beside it: %r" % result)
        check_nothing_left(machine, backend)


@limit(180)
def test_vulkan_render_server_killed():
    with vulkan_guest() as (machine, backend):
        old = backend.render_server()
        seconds = killed(machine, backend, lambda: old)
        print("       vkmark ended after %.1f s" % seconds)
        vgd_vm.wait_for(lambda: [p for p in backend.children("virgl_render_se") if p != old], 5, "another render server")
        check_vulkan_is_back(machine, backend)
        check_rendering(machine)
        check_nothing_left(machine, backend)


@limit(180)
def test_vulkan_worker_killed():
    with vulkan_guest() as (machine, backend):
        old = backend.worker()
        family = backend.contexts() + [backend.render_server()]
        seconds = killed(machine, backend, lambda: old)
        print("       vkmark ended after %.1f s" % seconds)
        check_all_end(family + [old])
        check_vulkan_is_back(machine, backend)
        check_rendering(machine)
        check_nothing_left(machine, backend)


@limit(180)
def test_vulkan_worker_killed_with_live_maps():
    """Maps outlive the worker: the program's memory stays, and the guest can go on to free it; the window is then empty."""
    with vulkan_guest() as (machine, backend):
        program = start_maps(machine, 100)
        os.kill(backend.worker(), signal.SIGKILL)
        check_monitor(machine)
        program.write(b"verify\n")  # its device is lost: it ends, one way or the other
        result = program.wait(40)
        check(not result.timed_out, "vk-maps hangs after the worker's death: %s" % machine.stuck_tasks())
        check_vulkan_is_back(machine, backend)
        check_nothing_left(machine, backend)
        vgd_vm.wait_for(lambda: window(backend)["live"] == 0, 10, "an empty window")


@limit(180)
def test_vulkan_crash_in_the_guest_leaves_nothing():
    """vkmark crashes, five times: no context, no map and no descriptor is left."""
    with vulkan_guest() as (machine, backend):
        seen = []
        for i in range(5):
            program = start_vkmark(machine)
            check(len(backend.contexts()) == 1, "contexts: %s" % backend.contexts())
            program.kill(signal.SIGSEGV if i % 2 else signal.SIGKILL)
            program.wait(10)
            check_nothing_left(machine, backend)
            seen.append(footprint(backend, machine))
        check(window(backend)["live"] == 0, "maps left in vgd's table: %s" % window(backend))
        for name in ("supervisor's fds", "worker's fds", "QEMU's fds"):
            check(seen[1][name] == seen[-1][name], "%s: %s" % (name, seen))
        check_vulkan(machine)
        check_well(machine, backend)


@limit(180)
def test_vulkan_quit_and_kill_end_everything():
    for end in (lambda machine, backend: machine.quit(),
                lambda machine, backend: os.kill(machine.process.pid, signal.SIGKILL),
                lambda machine, backend: os.kill(backend.pid, signal.SIGTERM)):
        with vulkan_guest() as (machine, backend):
            start_maps(machine, 20)
            family = backend.process.family()
            check(backend.contexts(), "no Vulkan context: %s" % family)
            end(machine, backend)
            check_all_end(family)


@long
@limit(7200)
def test_vulkan_hundred_deaths():
    """100 SIGKILLs each to a context's process, the render server and the worker, while a program renders.

    No descriptor more, at most 2 MiB more. VGD_DEATHS=20 for fewer.
    """
    deaths = int(os.environ.get("VGD_DEATHS", "100"))
    check(deaths >= 2, "VGD_DEATHS must be 2 or more")
    with vulkan_guest() as (machine, backend):
        for name, pid in (("context", lambda: backend.contexts()[0]), ("render server", backend.render_server),
                          ("worker", backend.worker)):
            fds, memory, seconds = [], [], []
            for i in range(deaths):
                program = venus.start(machine, [venus.VK_PICTURE, "--loop", "60"])
                program.wait_for_output("frames: ", 40)
                begin = time.monotonic()
                os.kill(pid(), signal.SIGKILL)
                check_monitor(machine)
                check(not program.wait(40).timed_out, "death %d of a %s: the program hangs" % (i, name))
                seconds.append(time.monotonic() - begin)
                check_vulkan_is_back(machine, backend)
                if name != "context":  # one death is the subject, not a crash loop; contexts may die as they like
                    time.sleep(max(0, begin + 11 - time.monotonic()))
                fds.append(vgd_vm.fd_count(backend.pid))
                memory.append(vgd_vm.private_dirty_kib(backend.pid))
            seconds.sort()
            print("       %s: programs ended after %.1f s (median), %.1f s (longest); fds %s; KiB %d to %d" % (
                name, seconds[deaths // 2], seconds[-1], sorted(set(fds)), memory[1], memory[-1]))
            check(fds[1] == fds[-1], "the supervisor's fds: %s" % fds)
            check(memory[-1] - memory[1] <= 2048, "the supervisor's KiB: %s" % memory)
        check_nothing_left(machine, backend)
        check_no_stuck_tasks(machine)
