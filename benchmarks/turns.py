"""Programs that take turns, each in its own process: a busy machine slows all alike.

A benchmark starts itself once for each program, with `--worker NAME`. The process waits
for a line, works for one turn, and prints the seconds that its parts took.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys


class Worker:
    """This benchmark in a process of its own, as one of the programs to compare."""

    def __init__(self, name, *flags):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, *sys.argv, *flags, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        )

    def turn(self, limit=None):
        """Return the seconds of each part; None when it fails or is over the limit."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], limit)[0]:
            self.process.kill()
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Turns:
    """The worker's side: collects seconds, and waits for its turn."""

    def __init__(self, length=1):
        """Start the first turn; each is so many times of every part."""
        self.length = length
        self.seconds = {}
        sys.stdin.readline()

    def record(self, **seconds):
        """Keep the seconds of each part; at the end of a turn wait for the next."""
        for part, value in seconds.items():
            self.seconds.setdefault(part, []).append(value)
        if len(self.seconds[part]) == self.length:
            print(json.dumps(self.seconds), flush=True)
            self.seconds = {}
            if not sys.stdin.readline():
                sys.exit()


def add_turn_flags(parser, rounds):
    """Add the flags of a benchmark whose programs take turns; `rounds` is a default."""
    add = parser.add_argument
    add("--rounds", type=int, default=rounds, help=f"default: {rounds}")
    text = "for building and compiling; default: 300"
    add("--warm-up", type=float, default=300, metavar="SECONDS", help=text)
    add("--worker", help=argparse.SUPPRESS)


def take_turns(names, rounds, warm_up, *flags):
    """Let programs take turns.

    Args:
        names: Of the programs; the first must run.
        rounds: Turns of each.
        warm_up: Seconds for the first turn, which builds and compiles and is not
            counted.
        *flags: More of the command line for the workers.

    Returns:
        Lists of seconds by part.
    """
    workers, times = [], {}
    for name in names:
        worker = Worker(name, *flags)
        if worker.turn(warm_up):
            workers.append(worker)
            continue
        print(f"{name}: failed, or did not compile within {warm_up} s")
        if name == names[0]:
            raise SystemExit(1)
    for _ in range(rounds):
        for worker in workers:
            found = worker.turn()
            if found is None:
                raise SystemExit(f"{worker.name}: ended before its turns did")
            for part, seconds in found.items():
                times.setdefault(part, []).extend(seconds)
    for worker in workers:
        worker.end()
    return times


def print_table(times, per):
    """Print medians and the fastest of each part, and ours as a factor of each."""
    print(
        f"{'':26}{'ms/' + per:>12}{'fastest':>10}{'speed of ours':>16}{'fastest':>10}"
    )
    ours = next(iter(times.values()))
    for part, seconds in times.items():
        median, fastest = statistics.median(seconds), min(seconds)
        factors = median / statistics.median(ours), fastest / min(ours)
        print(
            f"{part:26}{1000 * median:12.2f}{1000 * fastest:10.2f}"
            f"{factors[0]:14.2f} x{factors[1]:8.2f} x"
        )
