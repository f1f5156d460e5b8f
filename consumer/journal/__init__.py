"""The durable record of every day's events.

`Journal` appends and seals, `open_chunk` reads a sealed day, `verify_day` and `repair_day` look
after what the disk did to it.
"""

from consumer.journal.chunk import SealedChunk, open_chunk
from consumer.journal.counts import DayCounts
from consumer.journal.journal import Appended, Journal
from consumer.journal.lock import DataLock
from consumer.journal.record import Record
from consumer.journal.recovery import Recovered
from consumer.journal.repair import repair_day
from consumer.journal.seal import Seal, SealedSegment
from consumer.journal.segment import SegmentScan, scan_segment
from consumer.journal.verify import JournalFault, verify_day

__all__ = [
    "Appended",
    "DataLock",
    "DayCounts",
    "Journal",
    "JournalFault",
    "Record",
    "Recovered",
    "Seal",
    "SealedChunk",
    "SealedSegment",
    "SegmentScan",
    "open_chunk",
    "repair_day",
    "scan_segment",
    "verify_day",
]
