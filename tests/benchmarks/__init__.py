"""Measurements of the real thing: ratios within one run, written to docs/benchmarks.*."""
