"""Reading one S3 object: all that is used of boto3, which has no types and is loaded only when an s3: reference comes.

Credentials, region and endpoint come from boto3's own settings (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL_S3, ...).
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import time
from contextlib import closing
from math import isfinite
from typing import Any

from orchestrator.workers.task import Permanent, Retryable

CHUNK = 1 << 16


def read_object(bucket: str, key: str, max_bytes: int, deadline: float) -> bytes:
    """The object's bytes, within `deadline` seconds. Blocks: call it in a thread. One try, for retries are not its job.

    Raises Permanent if boto3 is missing, or the object is not there, not allowed or above `max_bytes`; Retryable if S3
    cannot be reached or is slow.
    """
    try:
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
    except ImportError:
        raise Permanent("image_ref: s3 needs the extra 's3' (pip install routing-orchestrator[s3])") from None
    if not bucket or not key:
        raise Permanent("image_ref: s3://bucket/key is needed")
    ends = time.monotonic() + deadline
    wait = max(0.1, deadline) if isfinite(deadline) else 30.0
    config = Config(connect_timeout=wait, read_timeout=wait, retries={"total_max_attempts": 1})
    client: Any = Session().client("s3", config=config)
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        with closing(answer["Body"]) as body:
            return _drain(body, max_bytes, ends)
    except ParamValidationError:
        raise Permanent("image_ref: not a bucket and key that S3 can have") from None
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if status >= 500 or status in (408, 429):
            raise Retryable("image_ref: S3 did not answer well") from None
        raise Permanent("image_ref: S3 refused it") from None
    except (BotoCoreError, OSError) as error:
        raise Retryable(f"image_ref: S3 did not answer well ({type(error).__name__})") from None
    finally:
        client.close()


def _drain(body: Any, max_bytes: int, ends: float) -> bytes:
    data = bytearray()
    for chunk in body.iter_chunks(CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise Permanent("image_ref: the image is larger than the limit")
        if time.monotonic() > ends:
            raise Retryable("image_ref: S3 was too slow")
    return bytes(data)
