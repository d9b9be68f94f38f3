"""Embedded Redis and MongoDB, an emulated TMDB, and the demo and trial fleet that run on them.

May import: producer and worker, except in emulator.
"""
