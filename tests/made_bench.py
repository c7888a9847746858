"""A real, quick benchmark of two narrow networks, for tests of what is made of records."""

from typing import Any

from labelled import labelled_photos

from lfvit_cli.bench.record import BenchRecord, BenchSettings
from lfvit_cli.bench.run import run_bench

NARROW = "embed_dim=48,num_heads=3,depth=2,num_classes=10"
LF, DEIT = f"lf_deit_tiny:{NARROW}", f"deit_tiny_patch16_224:{NARROW}"


def bench_record(**changes: Any) -> BenchRecord:
    """Sixteen demo photos; keywords are settings."""
    listing = labelled_photos("test")
    settings = {
        "models": (LF, DEIT),
        "reference": DEIT,
        "data": "photos",
        "listing_sha256": listing.sha256,
        "max_photos": 16,
        "device": "cpu",
        "min_seconds": 0.0,
    }
    return run_bench(BenchSettings.model_validate(settings | changes), listing, lambda *_: None)
