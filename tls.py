"""Both ends of TLS: the authorities that the other side's certificate must come from, and the one that we show."""

import ssl


def client_context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer; servers are checked by name. An empty `ca_file` means the authorities that this machine trusts.

    Raises OSError (ssl.SSLError is one) or ValueError where a file cannot be used, as a key with a passphrase cannot.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, certificate_file, key_file)
    return context


def server_context(
    certificate_file: str, key_file: str, client_ca_file: str = "", *, crl_file: str = "", required: bool = True
) -> ssl.SSLContext:
    """TLS 1.2 or newer, for HTTP/1.1 alone. With `client_ca_file` clients show a certificate from there, if `required`.

    With `crl_file` it must not be in its authority's list, which must be there and not out of date (RFC 5280 §6.3).
    Raises as `client_context` does.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _show(context, certificate_file, key_file)
    if client_ca_file:
        context.load_verify_locations(client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        if crl_file:
            _look_up(context, crl_file)
        # A session that is taken up again is not looked at again. With TLS 1.2 it can be, out of this context's memory:
        # whoever has other files makes another one, and asks himself whether a certificate has ended.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def _look_up(context: ssl.SSLContext, crl_file: str) -> None:
    before = context.cert_store_stats()["x509"]
    context.load_verify_locations(crl_file)
    found = context.cert_store_stats()
    # A certificate in it would be one more authority.
    if found["x509"] != before or not found["crl"]:
        raise ValueError("not lists of certificates that were taken back alone")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _show(context: ssl.SSLContext, certificate_file: str, key_file: str) -> None:
    if certificate_file:
        # Without an answer of ours OpenSSL would ask the terminal for the passphrase.
        context.load_cert_chain(certificate_file, key_file or None, password="")
    elif key_file:
        raise ValueError("a key without a certificate")
