"""The commands for consents."""

from urllib.parse import quote

import click

from orchestrator.cli.console import call, show, url_option


@click.group()
def consents() -> None:
    """Consents."""


@consents.command("revoke")
@click.argument("consent_id")
@url_option
def consents_revoke(consent_id: str, url: str) -> None:
    """End a consent for ever: work under it is denied, its results are not handed out any more."""
    show(call(url, lambda client: client.call("POST", f"/consents/{quote(consent_id, safe='')}/revoke")))
