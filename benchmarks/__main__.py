"""`make bench`: every benchmark at a size that ends within a few minutes."""

from __future__ import annotations

import json

from benchmarks import close, ingest, search

if __name__ == "__main__":
    for scheme in ("chacha20poly1305-v1", "secretbox-v0"):
        print(json.dumps({"ingest": ingest.measure(scheme, 0, 20, 2048)}, indent=2), flush=True)
    print(json.dumps({"close": close.measure(100_000, 2048)}, indent=2), flush=True)
    print(json.dumps({"search": search.measure(100_000, 384, 200)}, indent=2), flush=True)
