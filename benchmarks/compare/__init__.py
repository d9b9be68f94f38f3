"""Reelhaul beside its peers: the same pages, the same MongoDB, the same documents, one after another.

Three tables: without a limit; under a server that enforces one; killed in the middle. See docs/benchmarks.md.
"""
