"""What a certificate says of itself."""

from cryptography import x509


def expires_at(pem: bytes) -> float:
    """When the first certificate in `pem` ends, in seconds since the epoch. Raises ValueError where there is none."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
