"""What was asked for: a module for each kind of request, which computes what it still lacks.

May import: coverage, audit, plan, and worker.
"""
