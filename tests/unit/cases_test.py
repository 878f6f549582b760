"""The check of the security cases: what it accepts, and that it can fail. Prints TAP."""
import pathlib
import subprocess
import sys

LIB = pathlib.Path(__file__).resolve().parent.parent / "lib"
sys.path.insert(0, str(LIB))
import cases  # noqa: E402

GROUPS = {"Q": ("Rings", 2)}
GOOD = {"Q01": {"what": "a", "tests": ["unit/x: one", "e2e/test_two"]}, "Q02": {"what": "b", "pending": "not yet"}}


def registry_is_right():
    assert cases.mistakes(*cases.load()) == []


def docs_are_made_from_it():
    r = subprocess.run([sys.executable, str(LIB / "cases.py"), "--check"], stdout=subprocess.PIPE, text=True)
    assert r.returncode == 0, r.stdout


def mistakes_are_found():
    assert cases.mistakes(GROUPS, GOOD) == []
    bad = {
        "is missing": {"Q01": GOOD["Q01"]},
        "is no case": {**GOOD, "Q03": GOOD["Q02"]},
        "in order": {"Q02": GOOD["Q02"], "Q01": GOOD["Q01"]},
        "either": {**GOOD, "Q02": {"what": "b"}},
        "without a reason": {**GOOD, "Q02": {"what": "b", "pending": ""}},
        "no test and": {**GOOD, "Q02": {"what": "b", "tests": []}},
        "twice": {**GOOD, "Q02": {"what": "b", "tests": ["unit/x: a", "unit/x: a"]}},
        "is not SUITE": {**GOOD, "Q02": {"what": "b", "tests": ["units/x: a"]}},
        "characters": {**GOOD, "Q02": {"what": "b" * 200, "pending": "c"}},
    }
    for words, registry in bad.items():
        assert any(words in line for line in cases.mistakes(GROUPS, registry)), words


def meson(stdout, result="OK"):
    return {"name": "vgd:unit / x", "result": result, "stdout": stdout}


def judged(*logs, everywhere=True, e2e="passed"):
    ran = cases.Ran()
    for log in logs:
        ran.add_meson("unit", log)
    if e2e:
        ran.add_e2e({"name": "test_two", "result": e2e})
    return cases.judge(GOOD, ran, everywhere)


def names_are_cut_out_of_tap():
    lines = cases.tap_lines("1..9\nok 3 - suite::one  (0.01s)\nok - two and # SKIP no GPU\n"
                            "not ok 4 - three, four\n    ok 1 - a subtest\n# ok 7 - a comment\n")
    assert lines == [("one", "passed"), ("two and", "skipped"), ("three, four", "failed")], lines


def tests_are_found_by_either_name_of_meson():
    for name in ["x", "vgd:unit / x", "unit - vgd:x", "vgd:unit+more / x"]:
        assert cases.bare_name(name) == "x", name
    assert cases.bare_name("guestless - vgd:probe-venus-qemu-11.2") == "probe-venus-qemu-11.2"


def passed_once_is_tested():
    v = judged(meson("ok 1 - s::one  # SKIP no GPU"), meson("ok 1 - s::one"))
    assert v.tested == ["Q01"] and v.failures == [] and v.pending == ["Q02"]
    assert v.summary() == "cases: 1 tested, 1 pending (Q02)"
    assert v.skips == ["case Q02: pending: not yet"]


def failures_are_told():
    for v, words in ((judged(meson("ok 1 - s::other")), "there is no test"),
                     (judged(meson("", result="ERROR")), "there is no test"),
                     (judged(meson("not ok 1 - s::one")), "passes nowhere"),
                     (judged(meson("ok 1 - s::one # SKIP no GPU")), "ran in no build"),
                     (judged(meson("ok 1 - s::one"), e2e="skipped"), "ran in no build"),
                     (judged(meson("ok 1 - s::one"), e2e="failed"), "passes nowhere")):
        assert v.tested == [] and len(v.failures) == 1 and words in v.failures[0], (v.failures, words)


def what_was_not_asked_for_is_no_failure():
    v = judged(meson("ok 1 - s::one"), e2e=None)
    assert v.failures == [] and v.tested == [] and v.partly == ["Q01"]
    v = judged(meson("ok 1 - s::one # SKIP no GPU"), everywhere=False)
    assert v.failures == [] and len(v.skips) == 2 and v.tested == []


def main():
    tests = [f for f in list(globals().values()) if callable(f) and getattr(f, "__module__", "") == "__main__" and
             f.__name__ not in ("main", "meson", "judged")]
    print("1..%d" % len(tests))
    failed = 0
    for n, test in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (n, test.__name__))
        except AssertionError as e:
            failed += 1
            print("not ok %d - %s" % (n, test.__name__))
            print("\n".join("# " + line for line in (str(e) or "see the test").splitlines()))
    return 1 if failed else 0


sys.exit(main())
