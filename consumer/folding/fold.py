"""The child process: embeds one sealed chunk and commits it to the indices that want it.

Reads one `FoldJob` as JSON on standard input, writes one `FoldReport` as JSON on standard output.
The chunk is read once; each batch goes to every embedder; an embedder or index that fails is left
out and reported, and the others go on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

# What its BLAS reserves must be there when the limit of memory is drawn.
import faiss  # noqa: F401 - loaded for what it reserves

from consumer.folding.executor import FoldJob, FoldReport, IndexOutcome, out_of_memory
from consumer.folding.installed import identity
from consumer.journal import SealedChunk, open_chunk
from embed.chunk import ChunkSpan, EventBatch
from embed.coverage import check_coverage
from embed.embedder import Embedder
from embed.flows import FlowAssembler, FlowFacts
from embed.rooms import open_embedder
from index.catalogue import Catalogue
from index.commit import commit_chunk
from index.editions import open_edition
from index.tending import tend

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

MIB = 1024 * 1024
PR_SET_PDEATHSIG = 1
EXIT_WITHOUT_MEMORY = 71
# What saves work on the next day and can go at any time, below the data folder.
CACHE = "cache"
SENTENCES = "sentences"
# Encoder threads wait for the interpreter while the pass over the events holds it; at the usual
# 5 ms they would stand still for a quarter of their time.
SWITCH_S = 0.0005
# A batch is tens of thousands of small objects that die together, hardly any of them in a cycle. At the
# usual 700 the collector looks for cycles among them some fifty times a batch, a tenth of the pass.
COLLECT_AFTER = 50_000


@dataclass(slots=True)
class Work:
    """The embedders that are still in the race, and what became of the others.

    Attributes:
        memory_mb: the limit that an error for want of memory is told with.
    """

    memory_mb: int
    embedders: dict[str, Embedder] = field(default_factory=dict)
    outcomes: dict[str, IndexOutcome] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    packets: FlowFacts = field(default_factory=FlowFacts)

    def give_up(self, name: str, error: BaseException) -> None:
        """Leave one index out, with the reason; the others are not touched."""
        self.embedders.pop(name, None)
        self.outcomes[name] = IndexOutcome(error=_said(error, self.memory_mb))

    def timed(self, stage: str, started: float) -> None:
        """Add the time since `started` to a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + time.perf_counter() - started


def _said(error: BaseException, memory_mb: int) -> str:
    """What an error says, and what to do if it says that memory ran out."""
    text = f"{type(error).__name__}: {error}"
    # The stack of a thread that is to be started counts, too.
    if isinstance(error, MemoryError) or "alloc" in text or "start new thread" in text:
        return f"{text} ({out_of_memory(memory_mb)})"
    return text


def fold(job: FoldJob) -> FoldReport:
    """Embed and commit one chunk. Errors of one index never leave this function.

    Raises:
        JournalCorruptError: the sealed chunk itself cannot be read whole; nothing is committed.
    """
    started = time.perf_counter()
    work = Work(job.memory_mb)
    chunk = open_chunk(job.data_dir / "journal", job.day, job.revision, zone=ZoneInfo(job.timezone))
    span = ChunkSpan(chunk.day, chunk.revision, chunk.start_ns, chunk.end_ns, chunk.events)
    _open_embedders(job, span, work)
    _feed(chunk, job, work)
    with Catalogue.open(job.data_dir / "catalogue.sqlite") as catalogue:
        for name in list(work.embedders):
            _commit(job, span, name, catalogue, work)
        _tend(job, catalogue, work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return FoldReport(work.outcomes, time.perf_counter() - started, peak, work.stages)


def _open_embedders(job: FoldJob, span: ChunkSpan, work: Work) -> None:
    # Beside the data, because the system's folder for temporary files may be memory.
    scratch = job.data_dir / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    kept = job.data_dir / CACHE
    kept.mkdir(mode=0o700, exist_ok=True)
    for name in job.indices:
        began = time.perf_counter()
        try:
            embedder = open_embedder(
                name,
                cache_dir=job.models_cache,
                threads=job.threads,
                scratch=scratch,
                sentences=kept / SENTENCES,
            )
            embedder.begin(span)
        except Exception as error:  # noqa: BLE001 - one index never holds up the others
            work.give_up(name, error)
        else:
            work.embedders[name] = embedder
        work.timed("load", began)


def _feed(chunk: SealedChunk, job: FoldJob, work: Work) -> None:
    batches = iter(chunk.batches(job.batch_events))
    assembler = FlowAssembler(job.sensors)
    work.packets = assembler.facts
    while True:
        began = time.perf_counter()
        records = next(batches, None)
        work.timed("read", began)
        if records is None:
            break
        began = time.perf_counter()
        payloads = [record.payload for record in records]
        times = [record.time_ns for record in records]
        batch = EventBatch.parse(times, payloads, sensors=job.sensors)
        work.timed("parse", began)
        began = time.perf_counter()
        batch = assembler.feed(batch, payloads)
        work.timed("assemble", began)
        _embed(batch, work)
    for batch in assembler.finish(job.batch_events):
        _embed(batch, work)


def _embed(batch: EventBatch, work: Work) -> None:
    for name, embedder in list(work.embedders.items()):
        began = time.perf_counter()
        try:
            embedder.add(batch)
        except Exception as error:  # noqa: BLE001 - one embedder never holds up the others
            work.give_up(name, error)
        work.timed(name, began)


def _commit(job: FoldJob, span: ChunkSpan, name: str, catalogue: Catalogue, work: Work) -> None:
    embedder = work.embedders[name]
    began = time.perf_counter()
    try:
        embedded = embedder.finish()
        coverage = {**embedded.coverage, **work.packets.coverage()}
        check_coverage(span, coverage, index=name)
        work.timed(name, began)
        began = time.perf_counter()
        model = identity(embedder.model)
        with open_edition(
            job.data_dir / "index",
            catalogue,
            name,
            dimension=embedder.dimension,
            model=model,
        ) as store:
            rows = commit_chunk(
                store,
                catalogue,
                day=job.day,
                revision=job.revision,
                blocks=((block.vectors, block.facts) for block in embedded.blocks),
                coverage=coverage,
                model=model,
            )
        work.outcomes[name] = IndexOutcome(rows=rows)
    except Exception as error:  # noqa: BLE001 - one index never holds up the others
        work.give_up(name, error)
    work.timed("commit", began)


def _tend(job: FoldJob, catalogue: Catalogue, work: Work) -> None:
    """Bring what makes large indices fast up to date; the day is committed whatever becomes of it."""
    began = time.perf_counter()
    for name, outcome in work.outcomes.items():
        if outcome.error is not None:
            continue
        upcoming = catalogue.upcoming(name)
        edition = catalogue.serving(name) if upcoming is None else upcoming.name
        try:
            tend(job.data_dir / "index", edition)
            catalogue.make_terms(edition)
        except Exception as error:  # noqa: BLE001 - without it questions are answered, slowly
            print(f"index {name} is not tended: {error}", file=sys.stderr)  # noqa: T201 - the log
    work.timed("tend", began)


def _restrain(job: FoldJob, parent: int) -> None:
    """Low priority, a memory limit, and the end when the service, process `parent`, ends."""
    os.nice(job.nice)
    if job.idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # RLIMIT_DATA counts private memory that may be written; mapped model files do not count. The
    # linear algebra of NumPy and FAISS has reserved some hundred MiB by now, the more the more
    # threads, of which next to nothing is ever touched: that is not held against the limit.
    limit = job.memory_mb * MIB + _reserved_and_untouched()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended while we were starting: nobody waits for this fold, and another may run.
    if os.getppid() != parent:
        sys.exit(1)


def end_without_memory() -> None:
    """From now on the process ends when a new thread has no memory to begin with.

    It dies unheard then, and `threading.Thread.start` waits for ever that it says it runs. Nothing that
    needs a frame of its own can be called in such a thread: so a thread that was there before is told.
    """
    fallen: SimpleQueue[UnraisableHookArgs] = SimpleQueue()

    def watch() -> None:
        while True:
            what = fallen.get()
            if issubclass(what.exc_type, MemoryError):
                os._exit(EXIT_WITHOUT_MEMORY)
            sys.__unraisablehook__(what)

    threading.Thread(target=watch, name="memory", daemon=True).start()
    sys.unraisablehook = fallen.put


def _reserved_and_untouched() -> int:
    """Private memory that this process may write and has not, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name in {"VmData", "RssAnon"}
    }
    return (kib["VmData"] - kib["RssAnon"]) * 1024


def main() -> int:
    """Entry point of the child. Its one argument is the process id of the service."""
    job = FoldJob.from_json(sys.stdin.readline())
    end_without_memory()
    _restrain(job, parent=int(sys.argv[1]))
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
    report_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # A library that prints must not spoil the report.
    os.dup2(2, 1)
    report = fold(job)
    report_to.write(report.to_json() + "\n")
    report_to.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
