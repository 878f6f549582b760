"""What ./check does once the packages and folders are there: builds, runs the suites, counts."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import cases

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
IMAGE = CHECKOUT / "guest" / "image"

MESON_SUITES = ["unit", "wire", "device", "guestless", "fuzz"]
SUITES = MESON_SUITES + ["e2e"]
SANITIZE = ["-Db_lundef=false", "-Dbuildtype=debugoptimized"]


class Build:
    """A way to build: name, whether on the host itself, compiler, meson options, and which suites run in it."""

    def __init__(self, name, native, suites, options=(), cc=None, slow=1):
        self.name, self.native, self.suites, self.options = name, native, suites, list(options)
        self.cc, self.slow = cc, slow


BUILDS = [
    Build("native", True, MESON_SUITES),
    Build("native-asan", True, MESON_SUITES, ["-Db_sanitize=address,undefined"] + SANITIZE, "clang-14", 4),
    # Under TSan Criterion cannot run: what does is the queue beside a guest that scribbles, and whole sessions on the
    # fake renderer.
    Build("native-tsan", True, ["unit", "fuzz"], ["-Db_sanitize=thread"] + SANITIZE, "clang-14", 6),
    Build("native-clang", True, [], [], "clang-14"),
    Build("sysroot", False, MESON_SUITES),
    Build("sysroot-clang", False, [], [], "clang"),
]


# What the forky folder has on every machine, and the tests that want it there: one that misses it has found a defect.
ALWAYS_THERE = re.compile("no Vulkan|Vulkan is not offered|virgl-server|no OpenGL|no venus|is missing")
WANT_IT = re.compile("venus|vulkan|vtest|render-|worker-start")


def must_run(build, test_name, reason):
    return not build.native and bool(WANT_IT.search(test_name) and ALWAYS_THERE.search(reason))


class Tally:
    def __init__(self):
        self.passed, self.failures, self.skips = 0, [], []
        self.start = time.monotonic()

    def say(self, text):
        print("[%4ds] %s" % (time.monotonic() - self.start, text), flush=True)

    def fail(self, name, detail=""):
        self.failures.append(name)
        self.say("FAILED %s" % name)
        if detail:
            print("\n".join("    " + line for line in detail.rstrip().splitlines()[-40:]), flush=True)


def tap_counts(text):
    """(passed, [failed], [skipped]) of TAP's top level lines."""
    passed, failed, skipped = 0, [], []
    for line in text.splitlines():
        m = re.match(r"(not )?ok\b\s*\d*\s*-?\s*(.*)", line)
        if not m:
            continue
        if re.search(r"#\s*skip", m.group(2), re.I):
            skipped.append(m.group(2))
        elif m.group(1) and not re.search(r"#\s*todo", m.group(2), re.I):
            failed.append(m.group(2))
        else:
            passed += 1
    return passed, failed, skipped


class Checker:
    def __init__(self, suites, e2e_names, only):
        self.suites, self.e2e_names, self.only, self.tally = suites, e2e_names, only, Tally()
        out = subprocess.run([str(IMAGE / "enter"), "--print-build"], stdout=subprocess.PIPE, text=True, check=True)
        self.folder = pathlib.Path(out.stdout.strip())
        self.ran = {s: 0 for s in suites}
        self.cases = cases.Ran()

    def build(self, build):
        env = dict(os.environ)
        if build.cc:
            env["CC"] = build.cc
        began = time.monotonic()
        r = subprocess.run([str(IMAGE / "build")] + (["--native"] if build.native else []) + [build.name] + build.options,
                           env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode:
            self.tally.fail("build %s" % build.name, r.stdout)
            return False
        self.tally.say("built %s in %.0f s" % (build.name, time.monotonic() - began))
        return True

    def run_meson_suite(self, build, suite):
        target = str(self.folder / build.name) if build.native else "/vgd/build/" + build.name
        argv = ["meson", "test", "-C", target, "--no-rebuild", "--suite", suite, "--timeout-multiplier", str(build.slow),
                "--logbase", suite]
        if not build.native:
            argv = [str(IMAGE / "enter"), "--"] + argv
        log = self.folder / build.name / "meson-logs" / (suite + ".json")
        log.unlink(missing_ok=True)
        began = time.monotonic()
        env = {**os.environ, "LSAN_OPTIONS": "print_suppressions=0:suppressions=%s" % (HERE / "lsan.supp")}
        r = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        tests = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        before = (self.tally.passed, len(self.tally.failures), len(self.tally.skips))
        for test in tests:
            self.count(build, suite, test)
            self.cases.add_meson(suite, test)
        p, f, s = (self.tally.passed - before[0], len(self.tally.failures) - before[1], len(self.tally.skips) - before[2])
        if r.returncode and not f:
            self.tally.fail("%s/%s" % (build.name, suite), r.stdout)
        # A suite that no build has a test for is told once, at the end; one that this build skipped wholly, too.
        self.ran[suite] += p + f
        if tests:
            self.tally.say("%s/%s: %d passed, %d failed, %d skipped in %.1f s" % (
                build.name, suite, p, f, s, time.monotonic() - began))

    def count(self, build, suite, test):
        name = "%s/%s/%s" % (build.name, suite, test["name"].split(" / ")[-1])
        result, text = test["result"], test.get("stdout", "")
        passed, failed, skipped = tap_counts(text)
        for each in [s for s in skipped if must_run(build, test["name"], s)]:
            skipped.remove(each)
            self.tally.fail("%s: %s" % (name, each))
        if result == "SKIP" and not passed and not failed:
            self.tally.skips += [name] if skipped or not tap_counts(text)[2] else []
            return
        self.tally.passed += passed
        self.tally.skips += ["%s: %s" % (name, s) for s in skipped]
        for each in failed:
            self.tally.fail("%s: %s" % (name, each))
        if result in ("OK", "EXPECTEDFAIL"):
            if passed + len(failed) + len(skipped) == 0:
                self.tally.passed += 1
            if not failed:
                return
        if result not in ("OK", "EXPECTEDFAIL", "SKIP"):
            told = text + "\n" + test.get("stderr", "")
            if failed:
                print("\n".join("    " + line for line in told.rstrip().splitlines()[-40:]), flush=True)
            else:
                self.tally.fail("%s (%s, status %s)" % (name, result.lower(), test.get("returncode")), told)

    def run_abi(self):
        """What was built with Debian 12's virglrenderer (0.10.4) passes the same conformance run on forky's (1.3)."""
        native = "/vgd/build/native/"
        began = time.monotonic()
        r = subprocess.run([str(IMAGE / "enter"), "--", "timeout", "300", native + "guest/tools/vgd-probe", "--exec",
                            native + "backend/vgd --virgl --no-control --fd={fd}"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        passed, failed, skipped = tap_counts(r.stdout)
        self.tally.passed += passed
        self.tally.skips += ["abi: " + s for s in skipped]
        self.ran["guestless"] += passed + len(failed)
        for each in failed:
            self.tally.fail("abi: " + each)
        if not passed or (r.returncode and not failed):
            self.tally.fail("abi (status %d)" % r.returncode, r.stderr)
        self.tally.say("built on Debian 12, run on forky: %d passed, %d failed, %d skipped in %.1f s" % (
            passed, len(failed), len(skipped), time.monotonic() - began))

    def run_e2e(self):
        results = self.folder / "e2e.json"
        results.unlink(missing_ok=True)
        r = subprocess.run([sys.executable, str(CHECKOUT / "tests" / "e2e" / "run.py"), "--json", str(results)] +
                           self.e2e_names)
        tests = json.loads(results.read_text()) if results.exists() else []
        for test in tests:
            if test["result"] == "passed":
                self.tally.passed += 1
            elif test["result"] == "skipped":
                self.tally.skips.append("e2e/%s: %s" % (test["name"], test["detail"]))
            else:
                self.tally.failures.append("e2e/%s" % test["name"])
            self.ran["e2e"] += test["result"] != "skipped"
            if not self.e2e_names:
                self.cases.add_e2e(test)
        if r.returncode and all(t["result"] != "failed" for t in tests):
            self.tally.fail("e2e (status %d)" % r.returncode)

    def judge_cases(self):
        """Each case of the security list has tests that really ran; those without are told, and counted as skipped."""
        _, registry = cases.load()
        verdict = cases.judge(registry, self.cases, everywhere=self.only is None)
        self.tally.skips += verdict.skips
        for each in verdict.failures:
            self.tally.fail(each)
        self.tally.say(verdict.summary())

    def run(self):
        wanted = [b for b in BUILDS if self.only in (None, "native" if b.native else "sysroot")]
        meson_suites = [s for s in self.suites if s in MESON_SUITES]
        everything = meson_suites == MESON_SUITES
        for build in wanted:
            here = [s for s in meson_suites if s in build.suites]
            # Builds that only look for warnings are for a full run.
            if not here and not everything and not (build.name == "sysroot" and "e2e" in self.suites):
                continue
            if self.build(build):
                for suite in here:
                    self.run_meson_suite(build, suite)
        if "guestless" in self.suites and self.only is None:
            self.run_abi()
        if "e2e" in self.suites:
            self.run_e2e()
        for suite, n in self.ran.items():
            if n == 0:
                self.tally.fail("%s: no test ran" % suite)
        if not self.e2e_names:
            self.judge_cases()
        t = self.tally
        if t.skips:
            print("skipped:\n    " + "\n    ".join(t.skips))
        if t.failures:
            print("failed:\n    " + "\n    ".join(t.failures))
        print("%d passed, %d failed, %d skipped" % (t.passed, len(t.failures), len(t.skips)), flush=True)
        return 1 if t.failures or not t.passed else 0


def main():
    arguments, only = sys.argv[1:], None
    if arguments and arguments[0] in ("--native", "--sysroot"):
        only = arguments.pop(0)[2:]
    suites = [a for a in arguments if a in SUITES]
    names = [a for a in arguments if a not in SUITES]
    if names and suites != ["e2e"]:
        print("check: no suite is called %s; there are: %s" % (" ".join(names), " ".join(SUITES)), file=sys.stderr)
        print("0 passed, 1 failed, 0 skipped")
        return 1
    suites = suites or [s for s in SUITES if not (only == "native" and s == "e2e")]
    return Checker(suites, names, only).run()


sys.exit(main())
