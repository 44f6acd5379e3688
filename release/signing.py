"""Sign a repository folder, and check the signature: Sigstore's model-signing with an elliptic-curve key, offline.

The signature covers the SHA-256 of every file, `release.json` included. It needs the `release` extra (model-signing
and pyOpenSSL).
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.run_folder import write_atomically
from release.repository import ADDED_BY_HUB, DOWNLOAD_CACHE, SIGNATURE_NAME

PASSWORD_VARIABLE = "MINDSHIFT_KEY_PASSWORD"


def create_key_pair(private_key: Path) -> Path:
    """Write a new P-256 key pair, PEM, readable by the owner only; returns the public key's path (`….pub`)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if private_key.exists():
        raise UserError("a key is here already", where=private_key, fix="Choose another name; keys are not replaced.")
    key, password = ec.generate_private_key(ec.SECP256R1()), _password()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    private_key.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        )
    public = private_key.with_name(private_key.name + ".pub")
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return public


def key_fingerprint(key: Path) -> str:
    """Return the sha256 of a key's public part (DER), from a public or a private PEM file."""
    from cryptography.hazmat.primitives import serialization

    try:
        data = key.read_bytes()
        if b"PRIVATE KEY" in data:
            password = _password()
            public: Any = serialization.load_pem_private_key(data, password.encode() if password else None).public_key()
        else:
            public = serialization.load_pem_public_key(data)
    except FileNotFoundError:
        raise UserError("no such key", where=key, fix="`mindshift release sign --create_key true` makes one.") from None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"not a readable PEM key, or its password is wrong ({type(error).__name__})", where=key
        ) from error
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def sign_folder(folder: Path, private_key: Path) -> Path:
    """Sign every file of a repository folder; returns the signature's path. An older signature is replaced."""
    signing, _, hashing = _libraries()
    key_fingerprint(private_key)  # a clear error for a missing or wrong key
    signature = folder / SIGNATURE_NAME
    temporary = folder.with_name(f".{folder.name}.{SIGNATURE_NAME}")
    config = signing.Config().set_hashing_config(_hashing(hashing))
    try:
        config.use_elliptic_key_signer(private_key=private_key, password=_password()).sign(folder, temporary)
    except ValueError as error:
        raise UserError(f"this key cannot sign ({error})", where=private_key, fix="Use an EC key (P-256).") from error
    write_atomically(signature, temporary.read_bytes())
    temporary.unlink()
    return signature


def signature_reasons(folder: Path, public_key: Path) -> list[str]:
    """Say why a folder's signature does not hold; empty if it does."""
    _, verifying, hashing = _libraries()
    signature = folder / SIGNATURE_NAME
    if not signature.is_file():
        return [f"{SIGNATURE_NAME} is missing: the release is not signed"]
    key_fingerprint(public_key)
    config = verifying.Config().set_hashing_config(_hashing(hashing))
    try:
        config.use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except Exception as error:  # noqa: BLE001  # the library raises many types for a bad signature; each is a refusal
        return [f"the signature does not hold ({type(error).__name__}: {str(error)[:300]})"]
    return []


def _libraries() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise UserError(
            f"model-signing is not usable here ({error})", where="release sign", fix="pip install -e '.[release]'"
        ) from error
    return signing, verifying, hashing


def _hashing(hashing: Any) -> Any:
    """Hash everything but the signature, what the Hub adds and the download's own cache."""
    ignored = [SIGNATURE_NAME, DOWNLOAD_CACHE.rstrip("/"), *ADDED_BY_HUB]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _password() -> str | None:
    return os.environ.get(PASSWORD_VARIABLE) or None
