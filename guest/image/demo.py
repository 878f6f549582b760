"""What ./demo does once everything is set up and built; see there."""
import argparse
import os
import sys
import time

import picture
import vm as vgd_vm

SCENES = ["build", "texture", "shading", "bump"]
OUT = vgd_vm.CHECKOUT / "demo-out"
START = float(os.environ.get("VGD_DEMO_START", time.time()))


def say(text):
    print("[%5.1fs] %s" % (time.time() - START, text), flush=True)


class Demo:
    def __init__(self, options):
        self.options, self.wrong, self.backend = options, [], None
        self.has_screen = options.frontend != "generic"

    def verdict(self, right, text):
        say(("right: " if right else "WRONG: ") + text)
        if not right:
            self.wrong.append(text)

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
        how = "on screen" if self.has_screen else "off screen"
        say("glmark2, 1024x768, %s:" % how)
        print("           scene      frames/s")
        for scene, rate in rates.items():
            print("           %-10s %8d" % (scene, rate))
        self.verdict(all(rate > 0 for rate in rates.values()), "glmark2 ran its %d scenes" % len(rates))

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
            raw = OUT / "picture.ppm"
            guest.get("/tmp/picture.ppm", raw)
            width, height, rows = picture.read_ppm(raw)
            raw.unlink()
            path = OUT / "picture.png"
            picture.write_png(path, width, height, rows)
            say("what the guest drew: %s" % os.path.relpath(path))
        lines = [line for line in result.text.splitlines() if line.startswith("picture:")]
        self.verdict(result.status == 0, "in the guest: " + (" ".join(lines)[9:] or result.errors.strip()))
        wrong, told = picture.compare(path)
        self.verdict(wrong == 0, "%s: %s" % (path.name, told))

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
                           env=vgd_vm.ONE_MODE if "glmark2" in argv[0] else None)
        say("it ran %.1f s; exit status %s%s" % (result.seconds, result.status, ", timed out" if result.timed_out else ""))
        return 124 if result.timed_out else result.status

    def run(self):
        options = self.options
        OUT.mkdir(exist_ok=True)
        with vgd_vm.Backend(os.environ.get("VGD_DEMO_BACKEND") or "vgd") as backend:
            self.backend = backend
            say("vgd is listening")
            try:
                with vgd_vm.VM(vgd_vm.FRONTENDS[options.frontend](backend), qemu=options.qemu) as guest:
                    say("a guest runs: QEMU %s, %s, %s, booted in %.1f s" % (
                        options.qemu, options.frontend, guest.accel.upper(), guest.boot_s))
                    if options.program:
                        return self.program(guest)
                    self.render(guest)
                    self.glmark2(guest)
                    self.picture(guest)
            finally:
                (OUT / "vgd.log").write_text(backend.log)
        if self.wrong:
            say("NOT right: " + "; ".join(self.wrong))
            return 1
        say("all right; pictures in %s" % os.path.relpath(OUT))
        return 0


def main():
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--frontend", choices=sorted(vgd_vm.FRONTENDS), default="gpu")
    parser.add_argument("--qemu", choices=["11.1", "10.0"], default="11.1")
    parser.add_argument("--seconds", type=float, default=2, help="for each glmark2 scene")
    parser.add_argument("--timeout", type=float, default=3600, help="for a program of yours, in seconds")
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    if options.frontend == "generic" and options.qemu == "10.0":
        parser.error("QEMU 10.0 has no generic vhost-user device that a user can make: use 11.1")
    vgd_vm.end_all_on_signals()
    try:
        return Demo(options).run()
    except vgd_vm.Failure as e:
        print("demo: %s\n(vgd's log: %s)" % (e, os.path.relpath(OUT / "vgd.log")), file=sys.stderr)
        return 1


sys.exit(main())
