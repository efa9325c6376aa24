"""What the sender of a task is told when it has ended, and the signature that shows that it was us who said so.

As Standard Webhooks 1.0 has it: `webhook-id`, `webhook-timestamp` (seconds), and `webhook-signature`, `v1,` and the
Base64 of HMAC-SHA256 over `id.timestamp.body`.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping

from orchestrator.domain.audit import rfc3339
from orchestrator.domain.lifecycle import Progress

PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: Base64 after `whsec_`, else the bytes of the text."""
    return b64decode(secret.removeprefix(PREFIX)) if secret.startswith(PREFIX) else secret.encode()


def signed(key: bytes, message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """The headers under which `body` is sent."""
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    signature = b64encode(hmac.digest(key, content, "sha256")).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def message(task_id: str, progress: Progress, at: float) -> dict[str, object]:
    """What is told of a task that ended at `at` (seconds since the epoch): nothing of its payload or its case."""
    state = progress.state.value
    return {"type": f"task.{state}", "timestamp": rfc3339(at), "data": {"task_id": task_id, "status": state}}
