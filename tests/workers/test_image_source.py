import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.workers import AgentError, Permanent, Retryable
from orchestrator.workers.image_source import ImageSource
from orchestrator.workers.testing import PATIENCE, serving

pytestmark = pytest.mark.anyio

DATA = b"some bytes"


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    """A folder with one file, beside a secret that is outside of it."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a b.png").write_bytes(DATA)
    (root / "large.png").write_bytes(b"x" * 101)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "inside.png").symlink_to(root / "sub" / "a b.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.png")
    return ImageSource(root, max_bytes=100)


async def read(source: ImageSource, ref: object, time_left: float = inf) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await source.read(ref, time_left)


@pytest.mark.parametrize(
    "ref",
    [
        "sub/a b.png",
        "./sub/../sub/a b.png",
        "inside.png",
        "file:sub/a%20b.png",
        "{root}/sub/a b.png",
        "file:{root}/sub/a%20b.png",
        "file://{root}/sub/a%20b.png",
        "FILE://localhost{root}/sub/a%20b.png",
    ],
)
async def test_files_in_the_folder(source: ImageSource, ref: str) -> None:
    """Paths, links and file: URLs that stay within the folder are read."""
    assert await read(source, ref.format(root=source.root)) == DATA


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("../secret.png", "outside"),
        ("sub/../../secret.png", "outside"),
        ("/etc/passwd", "outside"),
        ("file:///etc/passwd", "outside"),
        ("file:..%2Fsecret.png", "outside"),
        ("link.png", "outside"),
        ("up/secret.png", "outside"),
        ("file://elsewhere/etc/passwd", "another host"),
        ("loop.png", "no file|outside"),
        ("missing.png", "no file"),
        ("sub", "no file|regular"),
        ("pipe.png", "regular"),
        ("a\0b", "no file"),
        ("x" * 5000, "no file"),
        ("large.png", "limit"),
        ("", "path or URL"),
        (None, "path or URL"),
        (["sub/a b.png"], "path or URL"),
        ("ftp://127.0.0.1/a.png", "only"),
        ("data:image/png;base64,AAAA", "only"),
        ("gopher://127.0.0.1/", "only"),
    ],
)
async def test_refused_references(source: ImageSource, ref: object, message: str) -> None:
    """Paths and links out of the folder, pipes, large files and unknown schemes are refused for good, unquoted."""
    with pytest.raises(Permanent, match=message) as error:
        await read(source, ref)
    assert "secret" not in error.value.message
    assert "passwd" not in error.value.message


@pytest.mark.parametrize(
    "ref",
    [
        "http://images.example/a.png",
        "https://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://10.0.0.1/a.png",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://localhost.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://user:pass@127.0.0.1/",
        "http://evil.example#@127.0.0.1/",
        "http://evil.example\\@127.0.0.1/",
        "http:///a.png",
        "http:a.png",
        "http://[::1/",
        "http://127.0.0.1:99999/",
    ],
)
async def test_web_hosts_that_were_not_allowed(source: ImageSource, ref: str) -> None:
    """Without --allow-host only loopback is read, however another host is written. No connection is made."""
    with pytest.raises(Permanent, match=r"not allowed|user name|not a URL"):
        await read(source, ref)


@asynccontextmanager
async def web_images(seen: list[web.Request] | None = None) -> AsyncGenerator[str]:
    """Answers /status/N with N (a redirect for 3xx), /size/N with N bytes, /slow never."""

    async def take(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append(request)
        _, kind, number = request.path.split("/")
        if kind == "status":
            return web.Response(status=int(number), headers={"Location": "/size/5"}, body=DATA)
        answer = web.StreamResponse()
        await answer.prepare(request)
        if kind == "slow":
            await answer.write(b"x")
            await asyncio.sleep(PATIENCE)
        await answer.write(b"x" * int(number))
        return answer

    async with serving(take) as url:
        yield url


async def test_loopback_is_read(source: ImageSource) -> None:
    """An image on this host is read, by number or by name, up to the cap exactly."""
    async with web_images() as url:
        assert await read(source, f"{url}/status/200") == DATA
        assert await read(source, url.replace("127.0.0.1", "LOCALHOST") + "/status/200") == DATA
        assert len(await read(source, f"{url}/size/100")) == 100


async def test_an_allowed_host(tmp_path: Path) -> None:
    """--allow-host opens one host: it is then tried (there is none here, so the failure is retryable)."""
    source = ImageSource(tmp_path, frozenset({"images.invalid"}))
    with pytest.raises(Retryable):
        await read(source, "http://IMAGES.invalid/a.png", 5)
    with pytest.raises(Permanent, match="not allowed"):
        await read(source, "http://sub.images.invalid/a.png")


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/status/302", Permanent, "redirect"),
        ("/status/307", Permanent, "redirect"),
        ("/status/404", Permanent, "refused"),
        ("/status/403", Permanent, "refused"),
        ("/status/429", Retryable, "did not answer well"),
        ("/status/503", Retryable, "did not answer well"),
        ("/size/101", Permanent, "limit"),
        ("/size/9000000", Permanent, "limit"),
    ],
)
async def test_what_a_host_answers(source: ImageSource, path: str, kind: type[AgentError], message: str) -> None:
    """Redirects are not followed and the cap holds for streams; only what may pass is retryable."""
    seen: list[web.Request] = []
    async with web_images(seen) as url:
        with pytest.raises(kind, match=message):
            await read(source, url + path)
    assert [request.path for request in seen] == [path]


async def test_a_slow_host(source: ImageSource) -> None:
    """Reading ends at the task's deadline, retryably."""
    async with web_images() as url:
        with pytest.raises(Retryable, match="TimeoutError"):
            await read(source, f"{url}/slow/1", 0.2)


async def test_a_closed_port(source: ImageSource) -> None:
    """A host that is not there is retryable."""
    async with web_images() as url:
        pass
    with pytest.raises(Retryable, match="Connect"):
        await read(source, f"{url}/size/1")


@pytest.fixture
def s3_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Settings of boto3 with made-up keys, none of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return monkeypatch


def s3_error(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml")


@asynccontextmanager
async def fake_s3(objects: dict[str, bytes], seen: list[str]) -> AsyncGenerator[str]:
    """S3 by path (/bucket/key), signed requests only; a key that starts with a status fails with it."""

    async def take(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        if "AWS4-HMAC-SHA256" not in request.headers.get("Authorization", ""):
            return s3_error(403, "AccessDenied")
        if failing := re.match(r"/[^/]*/(\d{3})", request.path):
            return s3_error(int(failing[1]), "Failing")
        if request.path not in objects:
            return s3_error(404, "NoSuchKey")
        return web.Response(body=objects[request.path])

    async with serving(take) as url:
        yield url


async def test_s3(source: ImageSource, s3_settings: pytest.MonkeyPatch) -> None:
    """Objects come through boto3 from the endpoint that is set; each is asked for once, whatever comes of it."""
    seen: list[str] = []
    async with fake_s3({"/images/sub/a.png": DATA, "/images/large": b"x" * 101}, seen) as url:
        s3_settings.setenv("AWS_ENDPOINT_URL_S3", url)
        assert await read(source, "s3://images/sub/a.png") == DATA
        for ref, kind, message in [
            ("s3://images/missing", Permanent, "refused"),
            ("s3://images/403", Permanent, "refused"),
            ("s3://images/large", Permanent, "limit"),
            ("s3://images/503", Retryable, "did not answer well"),
            ("s3://images/500", Retryable, "did not answer well"),
            ("s3://images", Permanent, "bucket/key"),
            ("s3://../x", Permanent, "bucket and key|refused"),
            ("s3:images", Permanent, "bucket/key"),
        ]:
            before = len(seen)
            with pytest.raises(kind, match=message):
                await read(source, ref)
            assert len(seen) - before <= 1, ref


async def test_s3_that_is_not_there(source: ImageSource, s3_settings: pytest.MonkeyPatch) -> None:
    """An endpoint that cannot be reached, or no credentials, is retryable: another agent may have them."""
    async with fake_s3({}, []) as url:
        s3_settings.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(Retryable, match="EndpointConnectionError"):
        await read(source, "s3://images/a.png", 5)
    s3_settings.delenv("AWS_ACCESS_KEY_ID")
    s3_settings.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Retryable, match="NoCredentialsError"):
        await read(source, "s3://images/a.png", 5)


async def test_s3_without_its_extra(source: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without boto3 the refusal says what to install; everything else works without it."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("boto3", "botocore")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(Permanent, match="extra 's3'"):
        await read(source, "s3://images/a.png")
    assert await read(source, "sub/a b.png") == DATA
