"""Signatures: an HMAC-SHA256 beside a file, by which it shows that someone with the key wrote it. Knows no format.

The key is the content of the file that EDGEKP_KEY_FILE names, or EDGEKP_KEY itself. Without either nothing is signed
and nothing is asked. With one all that is run or trained on from is signed where it is written, and nothing of it is
read whose signature does not fit.

``FILE.hmac`` holds the key's id, by which another key is told from a changed file, and the HMAC of name and bytes.
"""

from __future__ import annotations

import hmac
import os
import stat
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from edgekp.atomic import write_file
from edgekp.errors import ArtifactError, EdgekpError
from edgekp.stage import say

KEY_VARIABLE, KEY_FILE_VARIABLE = "EDGEKP_KEY", "EDGEKP_KEY_FILE"
SUFFIX = ".hmac"
FEWEST_BYTES, MOST_BYTES = 16, 4096
ID_DIGITS = 8
MAKE_ONE = "make one: (umask 077; openssl rand -hex 32 > FILE)"


@dataclass(frozen=True)
class SigningKey:
    """A secret that is never printed, and what it says of files."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Tells keys apart, and is no secret."""
        return self._hmac(b"edgekp key")[:ID_DIGITS]

    def signature(self, name: str, data: bytes) -> str:
        """Of a file's name and bytes: what was signed as one file cannot take the place of another."""
        return f"{self.id} {self._hmac(name.encode() + b'/' + data)}"

    def _hmac(self, message: bytes) -> str:
        return hmac.new(self.secret, message, "sha256").hexdigest()


def signing_key() -> SigningKey | None:
    """The key of this environment; None without one.

    Raises:
        EdgekpError: Its file cannot be read, it is too short to be one, or it is given twice.
    """
    file, text = os.environ.get(KEY_FILE_VARIABLE), os.environ.get(KEY_VARIABLE)
    if file is None and text is None:
        return None
    if file is not None and text is not None:
        raise EdgekpError(f"{KEY_FILE_VARIABLE} and {KEY_VARIABLE} are both set, expected one key; unset one of them")
    return _checked(KEY_VARIABLE, os.fsencode(text)) if text is not None else _read_key(str(file))


def require_key() -> SigningKey:
    """The key of this environment, or an EdgekpError that says how to give one."""
    key = signing_key()
    if key is None:
        raise EdgekpError(f"no key: set {KEY_FILE_VARIABLE} to the file that holds it; {MAKE_ONE}")
    return key


def sign(path: Path, data: bytes) -> None:
    """Sign a file that was written with these bytes; without a key an old signature of it is taken away."""
    key = signing_key()
    if key is None:
        _beside(path).unlink(missing_ok=True)
    else:
        write_file(_beside(path), key.signature(path.name, data) + "\n")


def require_signature(path: Path, data: bytes) -> None:
    """Refuse bytes read from a file that were not signed with the key of this environment, if there is one.

    Raises:
        ArtifactError: There is no signature, or it is by another key, or of other bytes.
    """
    key = signing_key()
    if key is None:
        return
    found = _stated(path)
    if found is None:
        raise ArtifactError(f"{path}: is not signed, and a key is given; if you trust it: edgekp sign {path.parent}")
    if hmac.compare_digest(found.encode(), key.signature(path.name, data).encode()):
        return
    if found.startswith(f"{key.id} "):
        raise ArtifactError(f"{path}: was changed since it was signed; make it again, or take an intact copy")
    raise ArtifactError(f"{path}: was signed by another key than {key.id}, which is given; give the other, or if you "
                        f"trust the file: edgekp sign {path.parent}")


def signature_state(path: Path) -> str:
    """What a command says of a file that passed ``require_signature``."""
    key, found = signing_key(), _stated(path)
    if key is not None:
        return f"signed with key {key.id}"
    return "unsigned" if found is None else f"signed by key '{found[:ID_DIGITS]}', not checked: no key is given"


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _stated(path: Path) -> str | None:
    """The signature beside a file; None without one."""
    try:
        with _beside(path).open("rb") as file:
            return file.read(MOST_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{_beside(path)}: cannot be read ({error.strerror}); sign again: edgekp sign "
                            f"{path.parent}") from error


@cache  # it may be a pipe, and its permissions are complained of once
def _read_key(name: str) -> SigningKey:
    try:
        with Path(name).open("rb") as file:
            mode, data = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read(MOST_BYTES)
    except (OSError, ValueError) as error:
        raise EdgekpError(f"{KEY_FILE_VARIABLE}: '{name}' cannot be read ({error}); {MAKE_ONE}") from error
    key = _checked(name, data)
    if mode & 0o077:
        say(f"key: others may read {name} (mode {mode:o}); run: chmod 600 {name}")
    return key


def _checked(where: str, data: bytes) -> SigningKey:
    secret = data.strip()  # an editor ends a file with a new line
    if len(secret) < FEWEST_BYTES:
        raise EdgekpError(f"{where}: holds a key of {len(secret)} bytes, expected at least {FEWEST_BYTES}; {MAKE_ONE}")
    return SigningKey(secret)
