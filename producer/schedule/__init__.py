"""What is done without a request from a person, and when; `celery -A producer.schedule beat` runs it.

May import: enqueue and what lies below it, and worker.
"""
