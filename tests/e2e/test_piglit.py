"""A subset of piglit gives through vgd what it gives through QEMU's own device, test by test."""
import bz2
import json

from support import Failure, check, check_no_stuck_tasks, guest, limit, vgd_vm

TESTS = "spec@!opengl 1.1@(draw|depth|clip)|spec@arb_vertex_array|spec@glsl-1.20@execution@built-in"
NOT = "default_fb"  # wants a window
# From best to worst, as piglit ranks them.
RANK = ["pass", "Subtests", "warn", "skip", "notrun", "incomplete", "fail", "timeout", "crash"]


def results(machine):
    """{test or test@subtest: result}"""
    machine.run(["piglit", "run", "quick_gl", "-t", TESTS, "-x", NOT, "-l", "quiet", "/tmp/piglit"],
                env={"PIGLIT_PLATFORM": "surfaceless_egl"}, timeout_s=400, check=True)
    found = json.loads(bz2.decompress(machine.get("/tmp/piglit/results.json.bz2")))
    flat = {}
    for name, test in found["tests"].items():
        flat[name] = test["result"]
        flat.update({name + "@" + sub: result for sub, result in test.get("subtests", {}).items()})
    if len(flat) < 500:
        raise Failure("piglit ran only %d tests" % len(flat))
    return flat


def in_process_results():
    """Once for each version of the guest's folder."""
    memory = vgd_vm.places()["cache"] / ("piglit-%s.json" % vgd_vm.places()["vmlinux"].parent.name)
    if not memory.exists():
        with vgd_vm.VM(vgd_vm.in_process()) as machine:
            found = results(machine)
        memory.with_suffix(".new").write_text(json.dumps(found))
        memory.with_suffix(".new").rename(memory)
    return json.loads(memory.read_text())


@limit(900)
def test_piglit_as_in_process():
    wanted = in_process_results()
    with guest() as (machine, _):
        got = results(machine)
        check_no_stuck_tasks(machine)
    different = {k: (wanted.get(k, "notrun"), got.get(k, "notrun")) for k in sorted(set(wanted) | set(got))
                 if wanted.get(k) != got.get(k)}
    for name, (theirs, ours) in different.items():
        print("       %s: in-process %s, vgd %s" % (name, theirs, ours))
    counts = {r: sum(1 for result in got.values() if result == r) for r in RANK}
    print("       %d results, %d different: %s" % (
        len(got), len(different), ", ".join("%d %s" % (n, r) for r, n in counts.items() if n)))
    worse = [k for k, (theirs, ours) in different.items() if RANK.index(ours) > RANK.index(theirs)]
    check(not worse, "%d of %d are worse than in-process: %s" % (len(worse), len(wanted), ", ".join(worse[:20])))
