"""Vulkan in the guest, on stock QEMU 11.1's generic device: what runs, and what its defects D1-D6 must not break.

The defects are described in qemu-patches/README.md and docs/guide-frontends.md. QEMU's vhost-user-gpu-pci,hostmem= is not
released yet: the user-space guest stands in for it (vgd-probe).
"""
import contextlib
import signal
import threading

import venus
from support import (Failure, Skip, check, check_all_end, check_monitor, check_no_stuck_tasks, check_rendering, frames,
                     guest, limit, picture, start_drawing, vgd_vm)

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


def surplus_taken(backend):
    """How often vgd has taken maps away because QEMU could not start the device with them."""
    return backend.log.count(SURPLUS)


def bring_back(machine, backend, before):
    """After a start that failed for too many maps: once vgd has made room, another stop and cont is a start that works."""
    vgd_vm.wait_for(lambda: surplus_taken(backend) > before, 15, "vgd's making room for QEMU's memory table")
    stop_and_cont(machine)


@limit(180)
def test_vulkan_pause_with_many_maps():
    """20 maps are more than stock QEMU can start the device with: vgd takes them away and puts them back, contents kept."""
    with vulkan_guest() as (machine, backend):
        program = start_maps(machine, 20)
        for i in range(3):
            before = surplus_taken(backend)
            stop_and_cont(machine)
            bring_back(machine, backend, before)
            verify_maps(program, i + 1)
        end_maps(program)
        check_vulkan(machine)
        check_nothing_left(machine, backend)
        check_well(machine, backend)
