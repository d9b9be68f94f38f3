"""The client for TMDB: one request per token; a response becomes a value or an error.

May import: limiter, monitoring, keys, records, errors.
"""
