"""The fleet's rate limit: one token bucket in Redis, shared by every worker.

May import: monitoring, errors.
"""
