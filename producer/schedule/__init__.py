"""What happens without anybody asking: the entries of the schedule, and the tasks that run them.

May import: enqueue and what lies below it, and worker. `celery -A producer.schedule beat` runs it.
"""

from producer.schedule.tasks import app

__all__ = ["app"]
