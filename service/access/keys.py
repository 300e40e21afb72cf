"""API keys: how one looks, and the file of their hashes.

A key is 256 random bits, so its hash needs no slow function: nobody can try 2^256 keys, and scrypt at each request's
headers would hand strangers a way to keep the processor busy. The salt makes equal keys in two files look different.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

PREFIX: Final = "pkdot_"
"""By which scanners for leaked secrets, and people, know one."""
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
MAX_TOKEN_CHARS: Final = 200
"""A longer token is no key; it is not hashed."""
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
LINE: Final = re.compile(r"([^:]*):sha256\$([0-9a-f]{32})\$([0-9a-f]{64})(?::([1-9][0-9]{0,5}))?", re.ASCII)


class KeysError(ValueError):
    """A file of keys, or a new key, that cannot be; the message quotes nothing of what is in the file."""


class ApiKey(NamedTuple):
    """One line of the file."""

    name: str
    salt: bytes
    digest: bytes
    limit: int | None
    """Most requests of this key at once; None where it has no limit of its own."""

    @property
    def caller(self) -> str:
        """Tells keys apart; the same as long as the line is."""
        return self.digest.hex()

    def line(self) -> str:
        """As it stands in the file."""
        limit = "" if self.limit is None else f":{self.limit}"
        return f"{self.name}:sha256${self.salt.hex()}${self.digest.hex()}{limit}"


def new_key(name: str, limit: int | None = None) -> tuple[str, ApiKey]:
    """A new token, which is nowhere kept, and its line. Raises KeysError for an impossible name or limit."""
    if not NAME.fullmatch(name):
        raise KeysError("a key's name has 1 to 64 letters, digits, dots, hyphens or underscores")
    if limit is not None and not 0 < limit < 1_000_000:
        raise KeysError("a key's limit is a number of requests from 1 to 999999")
    token, salt = PREFIX + secrets.token_urlsafe(KEY_BYTES), secrets.token_bytes(SALT_BYTES)
    return token, ApiKey(name, salt, salted(salt, token), limit)


def salted(salt: bytes, token: str) -> bytes:
    """SHA-256 of the salt and the token, 32 bytes."""
    return hashlib.sha256(salt + token.encode("utf-8", "surrogateescape")).digest()


def read_keys(text: str) -> list[ApiKey]:
    """The keys of a file: one a line; empty lines, and lines that begin with #, say nothing. Raises KeysError."""
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line.strip())
        if found is None or not NAME.fullmatch(found[1]):
            raise KeysError(f"line {number} is not NAME:sha256$SALT$HASH or NAME:sha256$SALT$HASH:LIMIT")
        if found[1] in keys:
            raise KeysError(f"line {number} has the name of an earlier one")
        limit = None if found[4] is None else int(found[4])
        keys[found[1]] = ApiKey(found[1], bytes.fromhex(found[2]), bytes.fromhex(found[3]), limit)
    return list(keys.values())


def find_key(keys: Iterable[ApiKey], token: str) -> ApiKey | None:
    """The key of this token. Takes as long for every key, and for none: each is compared, in constant time."""
    if len(token) > MAX_TOKEN_CHARS:
        return None
    found = None
    for key in keys:
        if hmac.compare_digest(salted(key.salt, token), key.digest):
            found = key
    return found
