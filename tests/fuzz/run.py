"""The coverage-guided fuzzer: `make fuzz`, or `python -m tests.fuzz.run TARGET ...`.

Needs the extra `fuzz` (atheris, which is libFuzzer). What it learns is kept in `.fuzz/corpus`, so
that the next run goes on from there; an input that breaks a target is written to `.fuzz/findings`
and belongs, once it is mended, into `test_fuzz_targets.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(".fuzz")
ROOMS = ["consumer", "index", "proto"]
#: One input may not take longer, nor the process grow beyond this. Seconds on the wall, which a busy
#: machine stretches; MiB.
SLOWEST_S = 60
MOST_MB = 1536


def fuzz_here(target: str, arguments: list[str]) -> None:
    """Become the fuzzer of one target. Does not return."""
    import atheris

    with atheris.instrument_imports(include=ROOMS):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


def sow(target: str, inputs: list[bytes]) -> Path:
    """Write the inputs that a target begins with into its corpus."""
    corpus = FOLDER / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for content in inputs:
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    return corpus


def fuzz(target: str, inputs: list[bytes], seconds: int) -> dict[str, Any]:
    """Fuzz one target in a process of its own and report."""
    corpus = sow(target, inputs)
    findings = FOLDER / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.run", "--here", target, "--", str(corpus),
            f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MOST_MB}",
            f"-artifact_prefix={findings}/{target}-", "-print_final_stats=1", "-max_len=65536",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    executed = re.findall(r"number_of_executed_units:\s+(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+)", done.stdout)
    if done.returncode:
        print(done.stdout[-6000:])  # noqa: T201 - the finding
    return {
        "target": target,
        "seconds": round(time.monotonic() - began),
        "executions": int(executed[-1]) if executed else 0,
        "coverage": int(covered[-1]) if covered else 0,
        "corpus": sum(1 for _ in corpus.iterdir()),
        "found": done.returncode != 0,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="all, unless some are named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--here", metavar="TARGET", help="become the fuzzer of this target")
    asked, rest = parser.parse_known_args()
    if asked.here:
        fuzz_here(asked.here, [one for one in [*asked.targets, *rest] if one != "--"])
    from tests.fuzz.corpus import seeds

    with tempfile.TemporaryDirectory() as scratch:
        inputs = seeds(Path(scratch))
    reports = [fuzz(name, inputs[name], asked.seconds) for name in asked.targets or inputs]
    print(json.dumps(reports, indent=2))  # noqa: T201 - the answer
    return int(any(report["found"] for report in reports))


if __name__ == "__main__":
    sys.exit(main())
