"""Mends faults of kombu, Celery, billiard and Flower; each patch names its fault.

May import: errors.
"""
