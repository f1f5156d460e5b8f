"""`make bench`: every benchmark at a size that ends within a few minutes."""

from __future__ import annotations

import json
from typing import get_args

from benchmarks import close, ingest, search
from benchmarks.processes import Load
from consumer.wire.keys import Scheme

if __name__ == "__main__":
    for scheme in get_args(Scheme):
        result = ingest.measure(Load(scheme, rate=0, seconds=20, size=2048))
        print(json.dumps({"ingest": result}, indent=2), flush=True)
    print(json.dumps({"close": close.measure(100_000, 2048)}, indent=2), flush=True)
    print(json.dumps({"search": search.measure(100_000, 384, 200)}, indent=2), flush=True)
