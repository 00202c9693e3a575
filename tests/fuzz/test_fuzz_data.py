"""Whatever is in a file: its readers read it, or refuse it in a line; nothing else ever happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mutations

ROOT = Path(__file__).parents[2]
CASES = 65
"""Five of each kind of file."""


def test_any_file_is_read_or_refused_in_a_line(tmp_path: Path) -> None:
    count = mutations.cases(CASES)
    paths = (str(ROOT), str(ROOT / "tests" / "trainer"))
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "fuzz" / "readers.py"),
            str(tmp_path),
            "0",
            str(count),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{told[-1:]}: {done.stderr[-3000:]}"
    came = [case for case in told if "came" in case]
    assert len(came) == count
    wrong = [case for case in came if case["came"] not in ("read", "refused")]
    assert not wrong, "\n\n".join(f"{c['case']} {c['file']}: {c['came']}" for c in wrong)
    assert sum(case["came"] == "refused" for case in came) > count / 4
