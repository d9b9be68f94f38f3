"""Messages as kombu writes them to Redis, for tests that send what no producer would."""

import base64
import json
from uuid import uuid4


def message(body: bytes, content_type: str = "application/json", task: str = "reelhaul.fetch_page") -> str:
    """A message for the queue `pages`."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8" if "json" in content_type else "binary",
            "content-type": content_type,
            "headers": {"lang": "py", "task": task, "id": str(uuid4()), "argsrepr": "-", "kwargsrepr": "-"},
            "properties": {
                "correlation_id": str(uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "pages"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )
