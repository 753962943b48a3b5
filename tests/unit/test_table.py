# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""FORMATS.md says what the tests say."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.table import DOCUMENT, KINDS, ROOT, make_document


def test_the_table_is_what_the_tests_prove() -> None:
    # In a process of its own: a run of pytest does not take another one within.
    program = "import json, tests.table; print('\\n' + json.dumps(sorted(tests.table.collect())))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    proofs = [tuple(proof) for proof in json.loads(done.stdout.splitlines()[-1])]
    assert {kind for kind, *_ in proofs} == set(KINDS)
    assert DOCUMENT.read_text(encoding="utf-8") == make_document(proofs), (
        "write it anew: python -m tests.table"
    )
