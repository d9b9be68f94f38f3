"""What a process reports about itself: logs, metrics, stats, heartbeats.

May import: errors.
"""
