"""Stock QEMU, each front-end device: boots, renders through us, shows the right pixels, leaves nothing behind."""
import json
import signal

from support import (Failure, check, check_all_end, check_monitor, check_no_stuck_tasks, check_rendering, check_screen,
                     guest, limit, picture, vgd_vm)


def renders(frontend, qemu):
    with guest(frontend, qemu) as (machine, backend):
        check_rendering(machine)
        on_screen = frontend != "generic"
        if on_screen:
            check_screen(machine)
        rates = machine.glmark2(["build", "texture"], offscreen=not on_screen, seconds=1)
        check(all(rate > 5 for rate in rates.values()), "glmark2's frames per second: %s" % rates)
        check_monitor(machine)
        check_no_stuck_tasks(machine)
        check(len(backend.children("vgd-worker")) == 1, "not one worker: %s" % backend.children())
        family = backend.process.family()
        machine.quit()
        check_all_end(family)


def test_gpu_on_qemu_11_1():
    renders("gpu", "11.1")


def test_gpu_on_qemu_10_0():
    renders("gpu", "10.0")


def test_vga_on_qemu_11_1():
    renders("vga", "11.1")


def test_vga_on_qemu_10_0():
    renders("vga", "10.0")


def test_generic_on_qemu_11_1():
    renders("generic", "11.1")


def test_2d_only():
    """Without --virgl the guest draws by itself, and its screen is exact all the same."""
    with guest(virgl=False) as (machine, _):
        check_screen(machine, renderer="llvmpipe")
        check_no_stuck_tasks(machine)


def test_dma_buf_scanout():
    """Where textures can be exported QEMU's window shows them, pixel for pixel."""
    with guest(display="gtk,gl=on,show-menubar=off,keep-aspect-ratio=off",
               backend_env={"LD_PRELOAD": vgd_vm.udmabuf_standin()}) as (machine, _):
        command = machine.popen(["/vgd/guest/picture", "--hold"])
        command.wait_for_output("holding", 60)
        machine.resize_window()
        rows = vgd_vm.wait_for(lambda: picture.crop_picture(*machine.window()), 15, "the picture in QEMU's window", 0.5)
        path = machine.folder / "window.png"
        picture.write_png(path, picture.WIDTH, picture.HEIGHT, rows)
        wrong, told = picture.compare(path)
        check(wrong == 0, told)
        try:
            machine.screendump(path)
        except Failure as e:
            check("no surface" in str(e), str(e))
        else:
            raise Failure("QEMU has the pixels: the scanout was not passed as a dma-buf")
        command.close_stdin()
        check(command.wait(30).status == 0, "the picture program: %r" % command.result)


@limit(200)
def test_only_the_chosen_node_is_opened():
    """In a guest with two render nodes (ours and vgem's), vgd opens the one it was told and no other."""
    with guest() as (machine, _):
        machine.run(["modprobe", "vgem"], check=True)
        nodes = machine.run("ls /dev/dri/renderD*", check=True).text.split()
        check(len(nodes) == 2, "render nodes in the guest: %s" % nodes)
        for node in nodes:
            vgd = machine.popen(["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=open,openat,openat2", "-o",
                                 "/tmp/trace", vgd_vm.find_vgd(), "--virgl", "--render-node=" + node,
                                 "--socket-path=/tmp/nested.sock"])
            vgd_vm.wait_for(lambda: b" ready" in vgd.result.stderr or vgd.done.is_set(), 60, "the nested vgd")
            check(not vgd.done.is_set(), "the nested vgd ended: %r" % vgd.result)
            vgd.kill(signal.SIGTERM)
            vgd.wait(10)
            opened = machine.run("grep -o '/dev/dri/[a-zA-Z]*[0-9]*' /tmp/trace | sort -u").text.split()
            check(opened == [node], "told %s, opened %s\n%s" % (node, opened, vgd.result.errors[-800:]))


def test_connected_as_libvirt_does():
    """One end of a socket pair by --fd, no path."""
    with guest(by_fd=True) as (machine, backend):
        check_rendering(machine)
        check_screen(machine)
        family = backend.process.family()
        machine.quit()
        check_all_end(family)


def test_vgdctl():
    """status tells of this guest; screenshot gives the screen's pixels without asking QEMU."""
    with guest() as (machine, backend):
        status = backend.ctl("status", "--json")
        check(status.returncode == 0 and isinstance(json.loads(status.stdout), dict), "vgdctl status: %s" % status)
        command = machine.popen(["/vgd/guest/picture", "--hold"])
        command.wait_for_output("holding", 60)
        path = machine.folder / "ctl.png"
        shot = backend.ctl("screenshot", "0", str(path))
        check(shot.returncode == 0, "vgdctl screenshot: %s" % shot)
        wrong, told = picture.compare(path)
        check(wrong == 0, told)
        command.close_stdin()
