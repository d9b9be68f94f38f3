"""Mends faults of kombu, Celery, billiard and Flower; each patch names its fault.

May import: errors.
"""

from worker.patches import celery_pool_option, flower, kombu_redis


def install() -> None:
    """Install what must be in place before Celery starts; the rest is installed where it is needed."""
    kombu_redis.install()
    celery_pool_option.install()
    flower.install()
