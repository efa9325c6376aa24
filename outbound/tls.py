"""TLS to agents: the authorities that theirs must come from, and the certificate by which they know us."""

import ssl


def client_context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer; agents are checked by name. An empty `ca_file` means the authorities that this machine trusts.

    Raises OSError (ssl.SSLError is one) or ValueError where a file cannot be used, as a key with a passphrase cannot.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file:
        # Without an answer of ours OpenSSL would ask the terminal for the passphrase.
        context.load_cert_chain(certificate_file, key_file or None, password="")
    elif key_file:
        raise ValueError("a key without a certificate")
    return context
