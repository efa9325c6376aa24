"""Ed25519 signatures (RFC 8032) for the checkpoints of the audit trail."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key


class InvalidKey(ValueError):
    """The text is no key of the kind that is needed. The message quotes nothing of it."""


class Signer:
    """Signs with one private key, which it does not show."""

    def __init__(self, pem: str) -> None:
        """`pem` is a private key in PKCS #8, as `openssl genpkey -algorithm ed25519` writes it. Raises InvalidKey."""
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError):
            raise InvalidKey("it is not a private key in PEM") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidKey("it is not an Ed25519 key")
        self._key = key
        self.public_key = key.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return f"<Signer {self.public_key}>"

    def sign(self, message: bytes) -> str:
        """The signature of `message` in hex digits."""
        return self._key.sign(message).hex()


def public_key_of(text: str) -> str:
    """A public key in hex digits, from those or from PEM. Raises InvalidKey."""
    try:
        key = load_pem_public_key(text.encode()) if "-----" in text else _from_hex(text.strip())
    except ValueError:
        raise InvalidKey("it is no public key, neither in PEM nor as 64 hex digits") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidKey("it is not an Ed25519 key")
    return key.public_bytes_raw().hex()


def verifies(public_key: str, message: bytes, signature: str) -> bool:
    """Whether `signature` is the one of `message` under `public_key`, both in hex digits. False for what is neither."""
    try:
        _from_hex(public_key).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _from_hex(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
