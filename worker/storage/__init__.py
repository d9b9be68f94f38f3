"""Reads and writes MongoDB: a module for each collection.

May import: monitoring, keys, records, errors.
"""
