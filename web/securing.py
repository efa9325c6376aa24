"""From the settings to the TLS that we serve with."""

import ssl
from functools import partial

from orchestrator.settings import Settings, SettingsError
from orchestrator.tls import server_context
from orchestrator.web.followed import Followed

_SOURCE = "the settings"


def tls_of(settings: Settings) -> Followed[ssl.SSLContext] | None:
    """What connections are secured with, by its files as they are; None for plain http.

    Raises SettingsError for files that cannot be used.
    """
    web, auth = settings.web, settings.auth
    if not web.tls_certificate_file:
        # Somebody who means to ask for certificates must not end up with plain http.
        for name, value in (
            ("web.tls_key_file", web.tls_key_file),
            ("auth.certificate_ca_file", auth.certificate_ca_file),
        ):
            if value:
                raise SettingsError(name, "needs web.tls_certificate_file", _SOURCE)
    if auth.certificate_crl_file and not auth.certificate_ca_file:
        raise SettingsError("auth.certificate_crl_file", "needs auth.certificate_ca_file", _SOURCE)
    if not web.tls_certificate_file:
        return None
    files = (web.tls_certificate_file, web.tls_key_file, auth.certificate_ca_file)
    crl, required = auth.certificate_crl_file, auth.certificate_required
    try:
        return Followed("certificates", [*files, crl], partial(server_context, *files, crl_file=crl, required=required))
    except (OSError, ValueError) as error:
        name = "web.tls_certificate_file, web.tls_key_file, auth.certificate_ca_file or auth.certificate_crl_file"
        raise SettingsError(name, f"cannot be used ({type(error).__name__})", _SOURCE) from None
