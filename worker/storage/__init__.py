"""Reads and writes MongoDB: a module for each collection, `database.Storage` for all of them.

May import: monitoring, keys, records, errors.
"""
