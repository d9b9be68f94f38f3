"""What a process tells about itself: logs, metrics, stats, heartbeats.

May import: errors.
"""
