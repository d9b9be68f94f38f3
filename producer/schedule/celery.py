"""What `celery -A producer.schedule` finds: Celery looks for a module of this name in a package."""

from producer.schedule.tasks import app

__all__ = ["app"]
