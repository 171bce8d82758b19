"""Keys and certificates of one job's federation: made for it, and deleted when it has ended."""

from __future__ import annotations

import ipaddress
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .._errors import WireError

SERVER_KEY = "server.key"


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner may read, or make it so.

    Raises:
        WireError: it is another user's, or a link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise WireError(f"{folder}: private keys go there, so it must be a folder of your own, and no link")
    folder.chmod(0o700)


def forget(folder: Path) -> None:
    """Delete the private keys."""
    for path in [folder / SERVER_KEY, *folder.glob("node-*")]:
        path.unlink(missing_ok=True)


def key_of(folder: Path, client: int) -> Path:
    """Where the private key of a client's node is; its public key stands beside it."""
    return folder / f"node-{client}"


def node_key(folder: Path, client: int) -> Path:
    """Make the private key of a client's node where there is none, and the public key beside it; returns the former's place."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = key_of(folder, client)
    public = path.with_suffix(".pub")
    if not (path.exists() and public.exists()):
        key = ec.generate_private_key(ec.SECP384R1())
        form = serialization.PrivateFormat.OpenSSH
        _secret(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    return path


def certify(folder: Path, names: list[str]) -> None:
    """Make an authority, and a certificate of the SuperLink's under these names that it signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(timezone.utc)

    def certificate(subject: str, issuer: str, key: Any, signer: Any, *extensions: tuple[Any, bool]) -> bytes:
        def name(text: str) -> Any:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        # Clocks of a cluster differ.
        made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=60))
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def alternative(text: str) -> Any:
        try:
            return x509.IPAddress(ipaddress.ip_address(text))
        except ValueError:
            return x509.DNSName(text)

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = "lowbit job"
    root = (x509.BasicConstraints(ca=True, path_length=0), True)
    (folder / "ca.crt").write_bytes(certificate(issuer, issuer, authority, authority, root))
    others = (x509.SubjectAlternativeName([alternative(each) for each in names]), False)
    (folder / "server.pem").write_bytes(certificate(names[0][:64], issuer, server, authority, others))
    form = serialization.PrivateFormat.PKCS8
    _secret(folder / SERVER_KEY, server.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
