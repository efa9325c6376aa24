"""The page where callers are known by the certificates of their connections, over real TLS."""

import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from clinic import Clinic
from playwright.async_api import Browser, expect
from visiting import Visitor

from orchestrator.domain.identity import Scope
from orchestrator.testing import Service, an_agent
from orchestrator.web.rights import PAGES

pytestmark = pytest.mark.anyio

OPERATOR = "operator-1.clinic"
READER = "reader-1.clinic"
GRANTS = ",".join([" ".join([OPERATOR, *sorted(Scope)]), f"{READER} tasks:read"])


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path / "clinic")


class Surfer:
    """Somebody with a certificate, cookies and no scripts."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.session, self.origin = session, origin

    async def ask(self, method: str, path: str, data: Mapping[str, str] | None = None, origin: str | None = None):
        """Status, where to look then, and the text. A POST is of the page itself, unless of another `origin`."""
        headers = {"Origin": self.origin if origin is None else origin} if method == "POST" and origin != "" else {}
        url = f"{self.origin}{path}"
        async with self.session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location"), await answer.text()

    async def sign_in(self, data: Mapping[str, str] | None = None) -> int:
        return (await self.ask("POST", "/ui/sign-in", data))[0]

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.session.cookie_jar}


@asynccontextmanager
async def surfing(service: Service, context: ssl.SSLContext, cookies: Mapping[str, str] = {}) -> AsyncGenerator[Surfer]:
    """Connections of that TLS, with those cookies."""
    jar = aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, cookies=cookies) as session:
        yield Surfer(session, f"https://127.0.0.1:{service.port}")


async def test_with_a_browser(clinic: Clinic, chromium: Browser) -> None:
    """One key stroke, and it is the page of the one whom the certificate names; what he does bears his name."""
    certificate, key = clinic.files(clinic.ca.issue_cert(OPERATOR), "operator")
    async with clinic.serving(certificates=GRANTS) as service:
        await service.orchestrator.gateway.register(an_agent(agent_id="agent-7"))
        shown = {"origin": f"https://127.0.0.1:{service.port}", "certPath": certificate, "keyPath": key}
        options = {"ignore_https_errors": True, "client_certificates": [shown]}
        async with Visitor(chromium, service.port, "https", **options) as visitor:
            page = await visitor.go("/")
            await expect(page.get_by_text(f"the certificate of {OPERATOR}")).to_be_visible()
            await visitor.shoot("sign-in-by-certificate")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("status")).to_have_text("live")
            await expect(page.get_by_text(OPERATOR)).to_be_visible()
            await page.get_by_role("link", name="Drain agent-7").click()
            await page.get_by_role("dialog").get_by_role("button", name="Drain").click()
            row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="agent-7"))
            await expect(row).to_contain_text("draining")
            await page.get_by_role("link", name="Audit").click()
            drained = page.get_by_role("row").filter(has_text="agent drained")
            await expect(drained.get_by_role("cell").last).to_have_text(OPERATOR)
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_role("alert")).to_contain_text("signed out")
            await visitor.go("/ui/tasks")
            await expect(page).to_have_title(re.compile("Sign in"))
        assert visitor.wrong == []


async def test_rights(clinic: Clinic) -> None:
    """A certificate opens the pages that its scopes open, and is nobody before its owner signed in."""
    async with (
        clinic.serving(certificates=GRANTS) as service,
        surfing(service, clinic.context(clinic.ca.issue_cert(READER))) as reader,
    ):
        assert (await reader.ask("GET", "/"))[:2] == (303, "/ui/sign-in")
        assert await reader.sign_in() == 303
        (cookie,) = reader.session.cookie_jar
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")
        seen = {
            path: (await reader.ask("GET", path))[0]
            for path in (call.removeprefix("GET ") for call in PAGES if call.startswith("GET ") and "<" not in call)
            if not path.endswith("/live")
        }
        assert {path for path, status in seen.items() if status == 200} == {"/", "/ui/tasks", "/ui/sign-in"}
        assert {status for status in seen.values() if status != 200} == {403}
        assert (await reader.ask("POST", "/ui/agents/agent-7/drain"))[0] == 403


async def test_a_session_elsewhere(clinic: Clinic) -> None:
    """A cookie that was opened by one certificate is nothing on a connection with another one, or with none."""
    other = clinic.context(clinic.ca.issue_cert(READER))
    async with clinic.serving(certificates=GRANTS, certificate_required="false") as service:
        async with surfing(service, clinic.context(clinic.ca.issue_cert(OPERATOR))) as operator:
            assert await operator.sign_in() == 303
            cookies = operator.cookies
            assert (await operator.ask("GET", "/ui/audit"))[0] == 200
        async with surfing(service, other, cookies) as thief:
            assert (await thief.ask("GET", "/"))[:2] == (303, "/ui/sign-in?why=ended")
        async with surfing(service, clinic.context(clinic.ca.issue_cert(OPERATOR)), cookies) as again:
            assert (await again.ask("GET", "/ui/audit"))[0] == 200
        async with surfing(service, clinic.context(None), cookies) as nobody:
            assert (await nobody.ask("GET", "/"))[:2] == (303, "/ui/sign-in?why=ended")
            assert await nobody.sign_in() == 401


async def test_a_key_beside_it(clinic: Clinic) -> None:
    """Is of the same caller, who then has the rights of both, or opens nothing."""
    async with (
        clinic.serving(certificates=GRANTS, api_keys="true") as service,
        surfing(service, clinic.context(clinic.ca.issue_cert(READER))) as reader,
    ):
        gateway = service.orchestrator.gateway
        _, own = await gateway.create_key(READER, frozenset({Scope.AUDIT_READ}))
        _, other = await gateway.create_key(OPERATOR, frozenset(Scope))
        assert await reader.sign_in({"credential": other}) == 401
        assert await reader.sign_in({"credential": ""}) == 401
        assert (await reader.ask("GET", "/ui/audit"))[0] == 303
        assert await reader.sign_in({"credential": own}) == 303
        for path, status in (("/ui/audit", 200), ("/ui/tasks", 200), ("/ui/send", 403)):
            assert (await reader.ask("GET", path))[0] == status


async def test_one_that_names_nobody(clinic: Clinic) -> None:
    """Is offered nothing, and opens nothing."""
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic", "ward-4.clinic"))
    async with clinic.serving(certificates=GRANTS) as service, surfing(service, context) as nobody:
        assert "shows the certificate" not in (await nobody.ask("GET", "/ui/sign-in"))[2]
        assert await nobody.sign_in() == 401


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", ""])
async def test_another_site(clinic: Clinic, origin: str) -> None:
    """Cannot have a browser sign in with the certificate that it shows everywhere, nor act where it did."""
    async with (
        clinic.serving(certificates=GRANTS) as service,
        surfing(service, clinic.context(clinic.ca.issue_cert(OPERATOR))) as operator,
    ):
        assert (await operator.ask("POST", "/ui/sign-in", origin=origin))[0] == 403
        assert operator.cookies == {}
        assert (await operator.ask("GET", "/"))[0] == 303
        assert await operator.sign_in() == 303
        assert (await operator.ask("POST", "/ui/agents/agent-7/drain", origin=origin))[0] == 403
