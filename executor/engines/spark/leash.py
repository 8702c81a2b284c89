"""Runs a program that the kernel kills when this one's parent dies, and that ^C at the terminal does not reach."""

from __future__ import annotations

import os
import signal
import sys

from executor.lifetime import end_with_parent


def main() -> None:
    """`python -m executor.engines.spark.leash PARENT_PID PROGRAM ARGUMENT...`; the program takes over this process."""
    parent, *program = sys.argv[1:]
    # An ignored signal and the parent-death signal both outlive exec; Spark's start scripts exec as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(int(parent))
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
