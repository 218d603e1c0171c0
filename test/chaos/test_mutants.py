#!/usr/bin/env python3
"""Drivers that make mistakes on purpose work on one real fleet under the same faults, each in
tenants of its own, beside one that makes none. The checker must find each mistake by the rule that
it breaks, and nothing in the honest one. A mutant that nobody noticed gets more rounds."""

import os
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
from chaos import Stage, Trial, arguments
from faults import Faults

ROUNDS = 20
# By what must be done to the servers for the mistake to matter: mutant → the rule that it breaks.
STALE = {
    "session-any": "ryw",
    "rollback-as-ok": "lost",
    "other-key": "duplicate",
    "wrong-tenant": "tenant",
    "split-transfer": "atomic",
    "late": "late",
    "forget-end": "ends",
}
CUT_OFF = {
    "retry-unknown": "duplicate",
    "unknown-as-failed": "false_failure",
    "unknown-as-ok": "lost",
}


def round_of(stage, names, injure, number):
    """name → {rule, …} that its run broke."""
    seed = 100 + number
    shared = Faults(stage.fleet, stage.net, seed, "-", lambda text: print(f"    {text}", flush=True))
    with tempfile.TemporaryDirectory() as folder:
        trials = {}
        for i, name in enumerate(names):
            faults = Faults(stage.fleet, stage.net, seed, f"{injure.__name__[0]}{number}{i}", lambda text: None)
            faults.noted = shared.noted
            os.mkdir(os.path.join(folder, name))
            trials[name] = Trial(stage, os.path.join(folder, name), faults, {
                "seed": seed + i, "seconds": 100, "threads": 3, "actors": 2, "tenants": 3,
                "keys": 3, "rate": 80, "mutant": name})
        for trial in trials.values():
            trial.begin()
        each = trials.values()
        shared.until(lambda: all(trial.driver.counts["OK"] > 20 for trial in each))
        injure(shared)
        in_threads(lambda trial: trial.end(0.2), each)
        return {name: {rule: text for rule, text in trial.judge()[1].violations}
                for name, trial in trials.items()}


def stale(faults):
    in_threads(lambda node: faults.pause_replay("shard0", node, 1.5), faults.standbys("shard0"))


def cut_off(faults):
    for _ in range(2):
        faults.inject("backend_killed", "shard0", 0.7)
        faults.inject("terminate_backends", "shard0", 0.7)


def in_threads(work, each):
    threads = [threading.Thread(target=work, args=(one,)) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def hunt(stage, mutants, injure):
    """What is wrong: mutants that nobody noticed, and what the honest driver is said to do."""
    left, wrong = list(mutants), []
    for number in range(ROUNDS):
        found = round_of(stage, ["none", *left], injure, number)
        wrong += [f"the honest driver broke {rule}: {text}" for rule, text in found["none"].items()]
        for name in list(left):
            rule = mutants[name]
            if rule in found[name]:
                print(f"  {name}: found: {rule}: {found[name][rule]}", flush=True)
                left.remove(name)
        if not left:
            break
        print(f"  not found in round {number + 1}: {', '.join(left)}", flush=True)
    return wrong + [f"{name} was not found" for name in left]


def main():
    stage = Stage(arguments(["--max-connections", "150"]), 1)
    try:
        wrong = hunt(stage, STALE, stale) + hunt(stage, CUT_OFF, cut_off)
    finally:
        stage.close()
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
