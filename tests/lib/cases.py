#!/usr/bin/env python3
"""The cases of the security list, and the tests that are them (tests/security-cases.toml).

    cases.py --check             is the registry well-formed, and docs/security.md's table made from it?
    cases.py --write-docs        make that table
    cases.py --log SUITE=FILE... which cases did these logs of meson's (JSON) really run?
"""
import json
import pathlib
import re
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
REGISTRY = CHECKOUT / "tests" / "security-cases.toml"
DOCS = CHECKOUT / "docs" / "security.md"
BEGIN, END = "<!-- cases: made by tests/lib/cases.py --write-docs -->\n", "<!-- end of cases -->\n"
WHAT_MAX = 140  # characters: a line of a table, not a story
SUITES = ["unit", "wire", "device", "guestless", "fuzz", "e2e"]

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
GOOD_RESULTS = ("OK", "EXPECTEDFAIL")


def load(path=REGISTRY):
    """(groups, cases): {letter: (title, count)}, {id: {"what", "tests" or "pending"}} in the order of the file."""
    table = tomllib.loads(path.read_text())
    groups = {letter: tuple(g) for letter, g in table.pop("groups").items()}
    return groups, table


def mistakes(groups, cases):
    """What is wrong with the registry, each in a line."""
    wrong = []
    wanted = ["%s%02d" % (letter, n + 1) for letter, (_, count) in groups.items() for n in range(count)]
    wrong += ["%s is missing" % name for name in wanted if name not in cases]
    wrong += ["%s is no case" % name for name in cases if name not in wanted]
    if not wrong and list(cases) != wanted:
        wrong.append("the cases are not in order")
    for name, case in cases.items():
        if not isinstance(case, dict) or set(case) not in ({"what", "tests"}, {"what", "pending"}):
            wrong.append("%s needs 'what', and either 'tests' or 'pending'" % name)
            continue
        if not 0 < len(case["what"]) <= WHAT_MAX:
            wrong.append("%s: 'what' has %d characters, at most %d" % (name, len(case["what"]), WHAT_MAX))
        if "pending" in case and not case["pending"]:
            wrong.append("%s is pending without a reason" % name)
        if "tests" in case and not case["tests"]:
            wrong.append("%s has no test and is not pending" % name)
        tests = case.get("tests", [])
        if len(set(tests)) != len(tests):
            wrong.append("%s names a test twice" % name)
        for test in tests:
            if not re.fullmatch(r"(%s)/[^/:]+(: \S.*)?" % "|".join(SUITES), test):
                wrong.append("%s: '%s' is not SUITE/TEST: NAME" % (name, test))
    return wrong


def tap_lines(text):
    """[(name, outcome)] of TAP's top level; Criterion's suite and time are cut off."""
    lines = []
    for line in text.splitlines():
        m = re.match(r"(not )?ok\b\s*\d*\s*-?\s*(.*)", line)
        if not m:
            continue
        name, _, directive = m.group(2).partition("# ")
        name = re.sub(r"\s*\(\d+\.\d+s\)\s*$", "", name).strip()
        outcome = SKIPPED if directive.lower().startswith("skip") else FAILED if m.group(1) else PASSED
        lines.append((re.sub(r"^\w+::", "", name), outcome))
    return lines


def bare_name(name):
    """Of a test in meson's log: "PROJECT:SUITE / NAME", or of newer ones "SUITE - PROJECT:NAME"."""
    return re.sub(r"^.* / |^.* - [^:]*:", "", name)


class Ran:
    """What was run: the best outcome of each test over all builds."""

    def __init__(self):
        self.outcomes = {}
        self.suites = set()

    def add(self, name, outcome):
        order = [PASSED, SKIPPED, FAILED]
        before = self.outcomes.get(name, outcome)
        self.outcomes[name] = min(before, outcome, key=order.index)

    def add_meson(self, suite, test):
        """@test: an object of meson's JSON log."""
        self.suites.add(suite)
        whole = "%s/%s" % (suite, bare_name(test["name"]))
        result = test["result"]
        self.add(whole, PASSED if result in GOOD_RESULTS else SKIPPED if result == "SKIP" else FAILED)
        for name, outcome in tap_lines(test.get("stdout", "")):
            self.add("%s: %s" % (whole, name), outcome)

    def add_e2e(self, test):
        self.suites.add("e2e")
        self.add("e2e/%s" % test["name"], test["result"])


class Verdict:
    """tested, pending, partly: ids. skips, failures: lines."""

    def __init__(self):
        self.tested, self.pending, self.partly, self.skips, self.failures = [], [], [], [], []

    def summary(self):
        text = "cases: %d tested, %d pending" % (len(self.tested), len(self.pending))
        if self.pending:
            text += " (%s)" % ", ".join(self.pending)
        if self.partly:
            text += "; of %d not all tests were to run here" % len(self.partly)
        return text


def judge(cases, ran, everywhere):
    """@everywhere: all builds were run, so that a test which passed in none is a failure; else it is a skip."""
    v = Verdict()
    for name, case in cases.items():
        if "pending" in case:
            v.pending.append(name)
            v.skips.append("case %s: pending: %s" % (name, case["pending"]))
            continue
        asked = [t for t in case["tests"] if t.split("/")[0] in ran.suites]
        missing = [t for t in asked if t not in ran.outcomes]
        failed = [t for t in asked if ran.outcomes.get(t) == FAILED]
        skipped = [t for t in asked if ran.outcomes.get(t) == SKIPPED]
        v.failures += ["case %s: there is no test '%s'" % (name, t) for t in missing]
        v.failures += ["case %s: '%s' passes nowhere" % (name, t) for t in failed]
        if everywhere:
            v.failures += ["case %s: '%s' ran in no build" % (name, t) for t in skipped]
        elif skipped:
            v.skips.append("case %s: not run here: %s" % (name, ", ".join(skipped)))
        if missing or failed or skipped or len(asked) < len(case["tests"]):
            v.partly.append(name)
        else:
            v.tested.append(name)
    return v


def table(groups, cases):
    lines = []
    for letter, (title, _) in groups.items():
        lines += ["", "**%s**" % title, "", "| case | what is tried | tests |", "| --- | --- | --- |"]
        for name in (n for n in cases if n[0] == letter):
            case = cases[name]
            where = "pending: %s" % case["pending"] if "pending" in case else ", ".join(
                dict.fromkeys("`%s`" % t.partition(": ")[0] for t in case["tests"]))
            lines.append("| %s | %s | %s |" % (name, case["what"], where))
    n_pending = sum("pending" in c for c in cases.values())
    head = "%d cases, %d of them pending." % (len(cases), n_pending)
    return "\n".join([head] + lines) + "\n\n"


def docs_with(text, new):
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit("docs/security.md has no place for the table of cases")
    return before + begin + "\n" + new + end + after


def main():
    groups, cases = load()
    if sys.argv[1:] == ["--check"]:
        wrong = mistakes(groups, cases)
        text = DOCS.read_text()
        if docs_with(text, table(groups, cases)) != text:
            wrong.append("docs/security.md is not what the registry says: tests/lib/cases.py --write-docs")
        print("\n".join(wrong))
        return 1 if wrong else 0
    if sys.argv[1:] == ["--write-docs"]:
        DOCS.write_text(docs_with(DOCS.read_text(), table(groups, cases)))
        return 0
    if len(sys.argv) > 2 and sys.argv[1] == "--log":
        ran = Ran()
        for word in sys.argv[2:]:
            suite, _, path = word.partition("=")
            for line in pathlib.Path(path).read_text().splitlines():
                ran.add_meson(suite, json.loads(line))
        v = judge(cases, ran, everywhere=False)
        print("\n".join(v.skips + v.failures + [v.summary()]))
        return 1 if v.failures else 0
    print(__doc__.strip(), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
