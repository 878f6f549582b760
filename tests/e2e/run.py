#!/usr/bin/env python3
"""Runs the end-to-end tests: every function test_* of every test_*.py beside this file.

    run.py [--json FILE] [--list] [NAME...]     only the tests whose names contain one of these
"""
import importlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback

import support

HERE = pathlib.Path(__file__).resolve().parent


class TimeUp(support.Failure):
    pass


def time_up(*_):
    raise TimeUp("not done within its time limit")


def run_one(function):
    """(result, detail)"""
    signal.signal(signal.SIGALRM, time_up)
    signal.alarm(int(getattr(function, "limit_s", 120)))
    try:
        function()
        return "passed", ""
    except support.Skip as e:
        return "skipped", str(e)
    except support.Failure as e:
        where = traceback.extract_tb(e.__traceback__)
        line = next((f for f in reversed(where) if "test_" in f.filename), where[-1])
        return "failed", "%s:%d: %s" % (os.path.basename(line.filename), line.lineno, e)
    except Exception:  # a test that breaks is a failed test, whatever broke it
        return "failed", traceback.format_exc()
    finally:
        signal.alarm(0)


def main():
    arguments, out = sys.argv[1:], None
    if "--json" in arguments:
        at = arguments.index("--json")
        out = arguments[at + 1]
        del arguments[at:at + 2]
    listing = "--list" in arguments
    names = [a for a in arguments if a != "--list"]
    tests = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        tests += [(k, f) for k, f in vars(module).items() if k.startswith("test_") and callable(f)]
    tests = [(k, f) for k, f in tests if not names or any(n in k for n in names)]
    if listing:
        print("\n".join(k for k, _ in tests))
        return 0
    support.vgd_vm.end_all_on_signals()
    results = []
    for name, function in tests:
        began = time.monotonic()
        if getattr(function, "long", False) and not names and not os.environ.get("VGD_LONG"):
            result, detail = "skipped", "takes minutes: name it, or set VGD_LONG=1"
        else:
            result, detail = run_one(function)
        seconds = time.monotonic() - began
        word = {"passed": "ok", "failed": "not ok", "skipped": "skip"}[result]
        print("%-7s%s (%.1f s)%s" % (word, name, seconds, ": " + detail if result == "skipped" else ""), flush=True)
        if result == "failed":
            print("\n".join("       " + line for line in detail.splitlines()), flush=True)
        results.append({"name": name, "result": result, "seconds": round(seconds, 2), "detail": detail})
    if out:
        pathlib.Path(out).write_text(json.dumps(results))
    failed = sum(r["result"] == "failed" for r in results)
    print("e2e: %d passed, %d failed, %d skipped" % (
        sum(r["result"] == "passed" for r in results), failed, sum(r["result"] == "skipped" for r in results)))
    return 1 if failed or not results else 0


sys.exit(main())
