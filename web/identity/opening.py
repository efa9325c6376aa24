"""From the settings to what verifies tokens."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator.settings import Auth, SettingsError
from orchestrator.web.followed import Followed
from orchestrator.web.safety import is_local

# Loaded where tokens are taken, and nowhere else.
if TYPE_CHECKING:
    from orchestrator.web.identity.key_set import KeySet
    from orchestrator.web.identity.published_keys import PublishedKeys
    from orchestrator.web.identity.tokens import TokenVerifier

_SOURCE = "the settings"


MakeVerifier = Callable[[Callable[[], float], Callable[[], float]], "TokenVerifier"]
"""From the wall clock, and by how many seconds it is known to be behind."""


def verifier_of(auth: Auth) -> MakeVerifier | None:
    """What verifies tokens, where they are taken. Raises SettingsError for settings that do not go together."""
    if not auth.tokens:
        return None
    if not auth.jwt_issuer or not auth.jwt_audience:
        raise SettingsError("auth.jwt_issuer", "and auth.jwt_audience are needed where tokens are taken", _SOURCE)
    if auth.jwt_keys and auth.jwt_secret_file:
        raise SettingsError("auth.jwt_secret_file", "is for tokens without auth.jwt_keys", _SOURCE)
    from orchestrator.web.identity.tokens import Rules, TokenVerifier

    rules = Rules(auth.jwt_issuer, auth.jwt_audience, auth.jwt_leeway_s, auth.jwt_lifetime_s)
    if "://" in auth.jwt_keys:
        return partial(TokenVerifier, rules, _published(auth))
    kept = _kept(auth)

    async def keys(_kid: str | None) -> "KeySet":
        return await kept()

    return partial(TokenVerifier, rules, keys)


def _published(auth: Auth) -> "PublishedKeys":
    from orchestrator.web.identity.published_keys import PublishedKeys, fetch

    url = urlsplit(auth.jwt_keys)
    if url.scheme != "https" and not (url.scheme == "http" and is_local(url.hostname or "")):
        raise SettingsError("auth.jwt_keys", "must be a file or an https address", _SOURCE)
    cache = Path(auth.jwt_keys_cache_file) if auth.jwt_keys_cache_file else None
    return PublishedKeys(auth.jwt_keys, auth.jwt_algorithms, fetch, cache)


def _kept(auth: Auth) -> "Followed[KeySet]":
    from orchestrator.web.identity.key_set import BadKeys, key_set, secret_key

    name, path = ("auth.jwt_keys", auth.jwt_keys) if auth.jwt_keys else ("auth.jwt_secret_file", auth.jwt_secret_file)

    def read() -> "KeySet":
        content = Path(path).read_bytes()
        return key_set(content, auth.jwt_algorithms) if auth.jwt_keys else secret_key(content.strip())

    try:
        return Followed("issuer_keys", [path], read)
    except OSError as error:
        raise SettingsError(name, f"cannot be read: {error.strerror}", _SOURCE) from None
    except BadKeys as error:
        raise SettingsError(name, f"cannot be used: {error}", _SOURCE) from None
