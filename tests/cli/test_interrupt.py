# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C while the kernel does not come back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from explorer.cli.interrupt import GRACE_SECONDS
from tests.cli.conftest import ROOT

# nanosleep(2) of the kernel in the process, for ten minutes.
SLEEPER = """
from explorer.cli.interrupt import interruptible
from explorer.kernel import Kernel

with Kernel() as kernel, interruptible():
    ffi, library = kernel.binding.ffi, kernel.binding.library
    span = ffi.new("int64_t[2]", [600, 0])
    arguments = ffi.new("int64_t[6]", [int(ffi.cast("intptr_t", span)), 0, 0, 0, 0, 0])
    print("asleep", flush=True)
    library.lkl_syscall(kernel.pointer, 101, arguments)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_call_that_hangs_is_ended(built: None, times: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asleep\n"
        time.sleep(0.2)
        begin = time.monotonic()
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            # Two that are sent at once are one.
            time.sleep(0.1)
        errors = process.communicate(timeout=60)[1]
        took = time.monotonic() - begin
    assert process.returncode == 130
    assert errors == b"lkl-explorer: interrupted\n"
    # Nobody waits out the second who has asked twice.
    assert took < GRACE_SECONDS if times == 2 else took >= GRACE_SECONDS


def test_a_command_that_heeds_it_ends_by_itself(built: None) -> None:
    program = """
import os, signal
from explorer.cli.interrupt import interruptible
try:
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("in order")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"in order\n", b"")
