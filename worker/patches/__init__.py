"""Patches for kombu, Celery, billiard and Flower: each names its fault, tests/*/test_patches.py show it.

May import: errors.
"""

from worker.patches import celery_pool_option, flower, kombu_json, kombu_redis


def install() -> None:
    """Install the patches that must be in place before Celery starts; the others are installed where used."""
    kombu_json.install()
    kombu_redis.install()
    celery_pool_option.install()
    flower.install()
