"""The audit in a real browser: browsed, filtered, verified, and how it stands."""

import asyncio
import sqlite3
from types import SimpleNamespace

import anyio
import pytest
from begun import left, watched
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.async_api import expect
from visiting import Visitor

from orchestrator.actors import verifying
from orchestrator.testing import PATIENCE_S, Service
from orchestrator.web.dashboard import trail

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """Checkpoints are signed, every four entries."""
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"ORCHESTRATOR_AUDIT_SIGNING_KEY": key, "ORCHESTRATOR_AUDIT_CHECKPOINT_ENTRIES": "4"}


@pytest.fixture(scope="module")
async def entries(service: Service) -> list[str]:
    """Sixty tasks are in it."""
    return [(await service.route({"case_id": f"case-{n % 3}"})).json["task_id"] for n in range(60)]


async def test_browse_and_filter(service: Service, visitor: Visitor, entries: list[str]) -> None:
    """The newest first, page by page; by task, and by case, whose id stands in no address."""
    page = await visitor.go("/ui/audit")
    rows = page.get_by_role("region", name="Entries").get_by_role("row")
    await expect(rows).to_have_count(51)
    await page.get_by_role("button", name="Older").click()
    await expect(page.get_by_role("link", name="Newest")).to_be_visible()
    await page.get_by_role("textbox", name="Task").fill(entries[7])
    await page.get_by_role("button", name="Filter").click()
    await expect(rows).to_have_count(2)
    await page.get_by_text("Decision", exact=True).click()
    await expect(rows.nth(1)).to_contain_text("No agent was known.")
    await page.get_by_role("textbox", name="Task").fill("")
    await page.get_by_role("textbox", name="Case").fill("case-2")
    await page.get_by_role("button", name="Filter").click()
    await expect(rows).to_have_count(21)
    assert not [url for url in visitor.requests if "case-2" in url]
    await page.get_by_label("Event").select_option("checkpoint")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_text("There are no such entries.")).to_be_visible()
    await page.get_by_role("textbox", name="Case").fill("")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_label("Event")).to_have_value("checkpoint")
    await expect(rows.filter(has_text="checkpoint")).to_have_count(await rows.count() - 1)
    await page.get_by_label("Since").fill("yesterday")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_role("alert")).to_contain_text("RFC 3339")


async def test_how_it_stands(service: Service, visitor: Visitor, entries: list[str]) -> None:
    """The end of the chain and the last checkpoint; verified on demand, with its signatures."""
    page = await visitor.go("/ui/audit")
    await expect(page.get_by_role("region", name="State of the trail")).to_contain_text("Last signed checkpoint")
    await page.get_by_role("link", name="Verify now").click()
    check = page.get_by_role("region", name="Verification")
    await expect(check).to_contain_text("The trail is whole.")
    await expect(check).to_contain_text("Signed with the key")


async def test_who_leaves_in_the_middle(service: Service, entries: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a page that is closed while the trail is checked nothing is left that goes on reading."""
    waits = SimpleNamespace(lowlevel=SimpleNamespace(checkpoint=anyio.sleep_forever))
    monkeypatch.setattr(trail, "anyio", waits)
    monkeypatch.setattr(verifying, "STEP", 10)
    with watched() as begun:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /ui/audit/verification HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with anyio.fail_after(PATIENCE_S):
            while b"event: check" not in await reader.readline():
                pass
        assert sorted(left(begun)) == ["audit_chain", "verify", "verifying"]
        writer.close()
        with anyio.fail_after(PATIENCE_S):
            while list(left(begun)):  # noqa: ASYNC110 - it is the server that finds it out
                await anyio.sleep(0.01)


async def test_a_trail_that_was_changed(service: Service, visitor: Visitor, entries: list[str]) -> None:
    """Is found out, and where. A test's own process may do what no command does: take the triggers away."""
    path = service.settings.storage.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER audit_entries_are_final")
        database.execute("UPDATE audit_entries SET agent_id = 'somebody' WHERE seq = 5")
    page = await visitor.go("/ui/audit/verify")
    check = page.get_by_role("region", name="Verification")
    await expect(check).to_contain_text("The trail does not hold.")
    await expect(check).to_contain_text("entry 5 of main: its content was changed")
