"""Fetches pages and movies under the fleet's limit and stores them. Start with tasks.py.

May import: nothing of producer and sandbox.
"""
