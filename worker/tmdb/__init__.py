"""Asks TMDB: one request for one token; an answer becomes a value or an error.

May import: limiter, monitoring, keys, records, errors.
"""
