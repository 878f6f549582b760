"""What ./demo does once everything is set up and built; see there."""
import argparse
import contextlib
import os
import sys
import time

import picture
import venus
import vm as vgd_vm

SCENES = ["build", "texture", "shading", "bump"]
OUT = vgd_vm.CHECKOUT / "demo-out"
MOST_FAILURES = 99  # an exit status cannot count on for ever
START = float(os.environ.get("VGD_DEMO_START", time.time()))


def say(text):
    print("[%5.1fs] %s" % (time.time() - START, text), flush=True)


class Demo:
    def __init__(self, options):
        self.options, self.wrong, self.skipped, self.backend = options, [], [], None
        self.has_screen = options.frontend not in ("generic", "in-process")

    def verdict(self, right, text):
        say(("right: " if right else "WRONG: ") + text)
        if not right:
            self.wrong.append(text)

    def skip(self, text):
        say("skipped: " + text)
        self.skipped.append(text)

    def table(self, title, rates):
        say(title + ":")
        print("           scene      frames/s")
        for scene, rate in rates.items():
            print("           %-10s %8d" % (scene, rate))
        self.verdict(all(rate > 0 for rate in rates.values()), "%s ran its %d scenes" % (title.split(",")[0], len(rates)))

    def screen(self, guest, name):
        path = OUT / (name + ".png")
        try:
            guest.screendump(path)
        except vgd_vm.Failure as e:  # a scanout passed as a dma-buf: QEMU has no pixels to dump, vgd has
            by_ctl = ["screenshot", "0", str(guest.folder / "ctl.png")]
            shot = self.backend.ctl(*by_ctl) if "no surface" in str(e) else None
            if shot is None or shot.returncode:
                why = "%s%s" % (e, "; " + shot.stderr.strip() if shot else "")
                raise vgd_vm.Failure("no picture of the screen: " + why) from None
            path.write_bytes((guest.folder / "ctl.png").read_bytes())
        return path

    def screen_with_something(self, guest, name):
        """The screen, if it has the programs' mode and more than a few colours on it."""
        path = self.screen(guest, name)
        width, _, rows = picture.read_png(path)
        colours = {row[i:i + 3] for row in rows[::7] for i in range(0, len(row), 21)}
        return path if width == picture.WIDTH and len(colours) > 50 else None

    def render(self, guest):
        seen = guest.renderer()
        say("GL renderer: %s" % seen["renderer"])
        say("GL version:  %s" % seen["version"])
        self.verdict(seen["renderer"].startswith("virgl"), "the guest's renderer is virgl")

    def glmark2(self, guest):
        rates = guest.glmark2(SCENES, offscreen=not self.has_screen, seconds=self.options.seconds)
        if self.has_screen:  # and a look at it while it runs
            command = guest.popen(vgd_vm.GLMARK2 + ["-b", SCENES[-1] + ":duration=60"], env=vgd_vm.ONE_MODE)
            path = vgd_vm.wait_for(lambda: self.screen_with_something(guest, "glmark2"), 30, "glmark2 on the screen", 0.2)
            say("the guest's screen: %s" % os.path.relpath(path))
            command.kill()
            command.wait(10)
        self.table("glmark2, 1024x768, %s" % ("on screen" if self.has_screen else "off screen"), rates)

    def picture(self, guest):
        if self.has_screen:
            command = guest.popen(["/vgd/guest/picture", "--hold"])
            command.wait_for_output("holding", 60)
            time.sleep(0.5)  # the last flush reaches the screen
            path = self.screen(guest, "picture")
            say("the guest's screen: %s" % os.path.relpath(path))
            command.close_stdin()
            result = command.wait(30)
        else:
            result = guest.run(["/vgd/guest/picture", "--offscreen", "--out", "/tmp/picture.ppm"], check=False)
            path = self.fetch_picture(guest, result, "picture")
        self.judge_picture(result, path)

    def fetch_picture(self, guest, result, name):
        """The /tmp/picture.ppm that a program left in the guest, as OUT/NAME.png; None if it could not draw."""
        if result.status not in (0, 1):
            return None
        raw, path = OUT / "picture.ppm", OUT / (name + ".png")
        guest.get("/tmp/picture.ppm", raw)
        picture.write_png(path, *picture.read_ppm(raw))
        raw.unlink()
        say("what the guest drew: %s" % os.path.relpath(path))
        return path

    def judge_picture(self, result, path, by=""):
        lines = [line for line in result.text.splitlines() if line.startswith("picture:")]
        told = " ".join(lines)[9:] or result.errors.strip() or "status %s" % result.status
        self.verdict(result.status == 0, "in the guest: " + by + told)
        if path:
            wrong, told = picture.compare(path)
            self.verdict(wrong == 0, "%s: %s" % (path.name, told))

    # Vulkan, and what runs on top of it

    def vulkan(self, guest):
        found = venus.devices(guest)
        for device in found:
            say("Vulkan device: %(deviceName)s, Vulkan %(apiVersion)s, driver %(driverName)s %(driverInfo)s" % device)
        self.verdict(found[0]["driverID"] == "DRIVER_ID_MESA_VENUS", "the guest's Vulkan driver is venus")

        result = guest.run([venus.VK_COMPUTE], env=venus.ONLY_VENUS, timeout_s=120)
        self.verdict(result.status == 0, "in the guest: " + self.last_line(result))
        result = guest.run([venus.VK_PICTURE, "--out", "/tmp/picture.ppm"], env=venus.ONLY_VENUS, timeout_s=120)
        self.judge_picture(result, self.fetch_picture(guest, result, "vulkan-picture"), "Vulkan: ")
        result = guest.run([venus.VK_MAPS, "--live", "100", "--churn", "1"], env=venus.ONLY_VENUS, timeout_s=120)
        lines = [line for line in result.text.splitlines() if line.startswith(("live:", "churn:"))]
        self.verdict(result.status == 0, "in the guest: mapped memory, " + ("; ".join(lines) or self.last_line(result)))
        if guest.run(["which", venus.VKMARK[0]]).status == 0:
            rates = venus.vkmark(guest, venus.SCENES, seconds=self.options.seconds)
            self.table("vkmark, 800x600, headless", rates)
        else:
            self.skip("vkmark: Debian had no package of it when the guest was made")
        return found[0]

    def zink(self, guest, device):
        """OpenGL on top of Vulkan."""
        env = venus.on_zink(device)
        result = guest.run(["eglinfo.x86_64-linux-gnu", "-B", "-p", "surfaceless"], env=env, timeout_s=120)
        facts = dict(line.split(": ", 1) for line in result.text.splitlines() if ": " in line)
        renderer = facts.get("OpenGL core profile renderer", "none: " + self.last_line(result))
        say("GL renderer: %s" % renderer)
        say("GL version:  %s" % facts.get("OpenGL core profile version", "none"))
        self.verdict(renderer.startswith("zink") and "Virtio-GPU Venus" in renderer, "OpenGL is zink on venus")
        result = guest.run(["/vgd/guest/picture", "--offscreen", "--out", "/tmp/picture.ppm"], env=env, timeout_s=120)
        self.judge_picture(result, self.fetch_picture(guest, result, "zink-picture"), "OpenGL by zink: ")
        rates = guest.glmark2(SCENES, offscreen=True, seconds=self.options.seconds, env=env)
        self.table("glmark2 by zink, 1024x768, off screen", rates)

    def opencl(self, guest, device):
        if guest.run(["ls", "/etc/OpenCL/vendors/rusticl.icd"]).status != 0:
            return self.skip("OpenCL: the guest's Mesa has no rusticl")
        result = guest.run([venus.CL_COMPUTE, "Venus"], env=venus.on_zink(device), timeout_s=180)
        for line in result.text.splitlines():
            if line.startswith("device: "):
                say("OpenCL device: " + line[8:])
        return self.verdict(result.status == 0, "in the guest: " + self.last_line(result))

    @staticmethod
    def last_line(result):
        lines = (result.text if result.status in (0, 1) else result.errors or result.text).splitlines()
        return lines[-1] if lines else "status %s, no output" % result.status

    def program(self, guest):
        argv = list(self.options.program)
        if os.path.isfile(argv[0]):
            target = "/tmp/" + os.path.basename(argv[0])
            guest.put(argv[0], target)
            say("copied %s into the guest as %s" % (argv[0], target))
            argv[0] = target
        say("in the guest: " + " ".join(argv))

        def show(is_error, data):
            os.write(2 if is_error else 1, data)
        result = guest.run(argv, timeout_s=self.options.timeout, on_output=show,
                           env={**(vgd_vm.ONE_MODE if "glmark2" in argv[0] else {}),
                                **(venus.ONLY_VENUS if self.options.vulkan else {})})
        say("it ran %.1f s; exit status %s%s" % (result.seconds, result.status, ", timed out" if result.timed_out else ""))
        return 124 if result.timed_out else result.status

    def on_backend(self):
        """A backend, unless the device is QEMU's own."""
        if self.options.frontend == "in-process":
            return contextlib.nullcontext()
        return vgd_vm.Backend(os.environ.get("VGD_DEMO_BACKEND") or "vgd", venus=self.options.vulkan)

    def run(self):
        options = self.options
        OUT.mkdir(exist_ok=True)
        with self.on_backend() as backend:
            self.backend = backend
            if backend:
                say("vgd is listening")
                device = vgd_vm.FRONTENDS[options.frontend](backend)
            else:
                device = vgd_vm.in_process_venus() if options.vulkan else vgd_vm.in_process()
            try:
                with vgd_vm.VM(device, qemu=options.qemu) as guest:
                    say("a guest runs: QEMU %s, %s, %s, booted in %.1f s" % (
                        options.qemu, options.frontend, guest.accel.upper(), guest.boot_s))
                    if options.program:
                        return self.program(guest)
                    if options.vulkan:
                        device = self.vulkan(guest)
                        self.zink(guest, device)
                        self.opencl(guest, device)
                    else:
                        self.render(guest)
                        self.glmark2(guest)
                        self.picture(guest)
            finally:
                if backend:
                    (OUT / "vgd.log").write_text(backend.log)
        if self.wrong:
            say("NOT right: " + "; ".join(self.wrong))
            return min(len(self.wrong), MOST_FAILURES)
        say("all right%s; pictures in %s" % (", %d skipped" % len(self.skipped) if self.skipped else "",
                                             os.path.relpath(OUT)))
        return 0


def main():
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--vulkan", action="store_true")
    # in-process: QEMU's own device, to compare
    parser.add_argument("--frontend", choices=sorted(vgd_vm.FRONTENDS) + ["in-process"])
    parser.add_argument("--qemu", choices=["11.1", "10.0"], default="11.1")
    parser.add_argument("--seconds", type=float, default=2, help="for each glmark2 scene")
    parser.add_argument("--timeout", type=float, default=3600, help="for a program of yours, in seconds")
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    options.frontend = options.frontend or ("generic" if options.vulkan else "gpu")
    if options.vulkan and options.frontend in ("gpu", "vga"):
        parser.error("Vulkan takes QEMU's generic device: vhost-user-gpu has no window for mapped memory before QEMU 11.2")
    if options.frontend == "generic" and options.qemu == "10.0":
        parser.error("QEMU 10.0 has no generic vhost-user device that a user can make: use 11.1")
    vgd_vm.end_all_on_signals()
    try:
        return Demo(options).run()
    except vgd_vm.Failure as e:
        print("demo: %s\n(vgd's log: %s)" % (e, os.path.relpath(OUT / "vgd.log")), file=sys.stderr)
        return 1


sys.exit(main())
