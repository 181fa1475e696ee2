"""A private forge on the loopback: git over https with a token, as the server's git meets one."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

#: Beginning of a path that is answered with a redirect, with what was told, or with nothing.
ELSEWHERE, TELLING = "/elsewhere", "/telling"


@dataclass
class Forge:
    """Repositories below `root`, for whoever says `user` and `token`; `authority` is its file."""

    root: Path
    authority: Path
    token: str = "ghp-known-to-nobody-else"
    user: str = "robot"
    port: int = 0
    #: Requests, logins that were told, and command lines of the machine that held the token.
    asked: list[str] = field(default_factory=list)
    logins: set[str] = field(default_factory=set)
    shown: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def look(self) -> None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes()
            except OSError:
                continue
            if self.token.encode() in words:
                self.shown.append(words.decode())


@contextmanager
def serving(root: Path) -> Iterator[Forge]:
    """A forge that is up for a block."""
    forge = Forge(root, root / "authority.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(forge))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(forge.authority))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    forge.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(forge: Forge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            forge.asked.append(f"{self.command} {path}")
            forge.look()
            login = self.headers.get("Authorization", "")
            if path.startswith(ELSEWHERE):
                self.answer(302, {"Location": f"{forge.url}/caught{path}?{query}"})
            elif not login:
                self.answer(401, {"WWW-Authenticate": 'Basic realm="forge"'})
            else:
                told = base64.b64decode(login.removeprefix("Basic ")).decode()
                forge.logins.add(told)
                if path.startswith(TELLING):
                    head = {"Content-Type": "text/plain", "X-Told": told}
                    self.answer(500, head, f"{told} {login}\n".encode())
                elif told != f"{forge.user}:{forge.token}":
                    self.answer(401, {"WWW-Authenticate": 'Basic realm="forge"'})
                else:
                    self.git(path, query)

        do_POST = do_GET

        def git(self, path: str, query: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            heads = {
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(
                ["git", "-c", "safe.directory=*", "http-backend"],
                input=self.rfile.read(length),
                capture_output=True,
                env={
                    "PATH": os.environ["PATH"],
                    "GIT_PROJECT_ROOT": str(forge.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "REMOTE_USER": forge.user,
                    "REMOTE_ADDR": "127.0.0.1",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_LENGTH": str(length),
                    **heads,
                },
            )
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            said = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.answer(int(said.pop("Status", "200").split()[0]), said, body)

        def answer(self, status: int, head: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {**head, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    return Handler


def _certificate(authority: Path) -> Path:
    """Write an authority's certificate, and one with its key for localhost; returns the latter."""
    now = datetime.datetime.now(datetime.UTC)
    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A team's authority")])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]

    def signed(name: x509.Name, key: Any, *more: tuple[Any, bool]) -> bytes:
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in more:
            built = built.add_extension(extension, critical)
        made = built.sign(root, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    authority.write_bytes(
        signed(issuer, root, (x509.BasicConstraints(ca=True, path_length=0), True))
    )
    private = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = authority.with_name("localhost.pem")
    leaf = signed(subject, own, (x509.BasicConstraints(ca=False, path_length=None), True),
                  (x509.SubjectAlternativeName(names), False))  # fmt: skip
    file.write_bytes(private + leaf)
    return file
