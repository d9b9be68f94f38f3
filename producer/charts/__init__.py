"""Pictures: coverage by genre and year, pairs of genres.

May import: progress, coverage and what lies below them, and worker.
"""
