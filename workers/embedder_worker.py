"""Reference agent: images to vectors, and the vectors' neighbours. `python -m orchestrator.workers.embedder_worker`

- `embed`: payload {"image_ref"} → {"vector": 256 numbers of length 1, "norm", "width", "height", "sha256"}.
- `indexing`: payload {"key", "vector"} → {"key", "size", "neighbours": [{"key", "cosine"}, ...]}, of what was there.

It declares raw_image, because it reads images: without consent it gets no task, not even the indexing of a vector.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from orchestrator.workers.agent import Agent
from orchestrator.workers.image_source import ImageSource
from orchestrator.workers.image_vector import SIZE, Vector, embed_image
from orchestrator.workers.options import Options, agent_parser
from orchestrator.workers.task import Permanent, Task
from orchestrator.workers.threads import run_in_thread
from orchestrator.workers.vector_index import VectorIndex

MODEL_VERSION = "dct256-1"
"""Changes when vectors made before and after are no longer comparable."""


def embedder(source: ImageSource, index: VectorIndex, *, agent_id: str = "embedder-1") -> Agent:
    """The agent, reading images from `source` and keeping vectors in `index`."""
    agent = Agent(agent_id, location="edge-local", model_version=MODEL_VERSION)

    @agent.handles("embed", raw_media=True)
    async def embed(task: Task) -> dict[str, Any]:
        data = await source.read(task.payload.get("image_ref"), task.time_left())
        found = await run_in_thread(embed_image, data)
        norm = round(float(np.linalg.norm(found.vector)), 6)
        size = {"width": found.width, "height": found.height}
        return {"vector": found.vector, "norm": norm, **size, "sha256": found.sha256}

    @agent.handles("indexing")
    def indexing(task: Task) -> dict[str, Any]:
        key = task.payload.get("key")
        if not isinstance(key, str) or not 0 < len(key) <= 200:
            raise Permanent("key: a string of 1 to 200 characters is needed")
        neighbours = index.add(key, _vector(task.payload.get("vector")))
        near = [{"key": other, "cosine": round(cosine, 6)} for other, cosine in neighbours]
        return {"key": key, "size": len(index), "neighbours": near}

    del embed, indexing  # registered through the decorators above
    return agent


def _vector(value: object) -> Vector:
    """`value` as a vector. Raises Permanent unless it is 256 finite numbers that are not all zero."""
    numbers = cast("list[object]", value) if isinstance(value, list) else []
    if len(numbers) != SIZE or not all(type(number) in (int, float) for number in numbers):
        raise Permanent(f"vector: a list of {SIZE} numbers is needed")
    vector = np.asarray(numbers, dtype=np.float64)
    with np.errstate(over="ignore"):
        length = np.linalg.norm(vector)
    if not np.isfinite(length) or length < 1e-9:
        raise Permanent("vector: finite numbers, not all zero, are needed")
    return vector


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = agent_parser("Embeds images and indexes their vectors.")
    add = parser.add_argument
    add("--image-root", type=Path, default=Path(), metavar="DIR", help="images outside of it are refused (here)")
    add("--allow-host", action="append", default=[], metavar="HOST", help="web host to read from, beside loopback")
    add("--max-image-bytes", type=int, default=20 << 20, metavar="N", help="larger files are refused (%(default)s)")
    add("--index", type=Path, metavar="FILE", help="where vectors are kept (in memory)")
    args = parser.parse_args(argv)
    hosts = frozenset(str(host).lower() for host in args.allow_host)
    source = ImageSource(args.image_root, hosts, args.max_image_bytes)
    embedder(source, VectorIndex(args.index)).run(Options.of(args))


if __name__ == "__main__":
    main()
