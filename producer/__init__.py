"""Decides what to fetch and when, shows how far it is, writes the data to files.

May import: worker.
"""
