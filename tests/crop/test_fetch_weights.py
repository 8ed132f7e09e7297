"""Fetching from a real server on this machine: whole, refused, broken off, redirected, over TLS."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from buffycoat.core.errors import InputError
from buffycoat.crop.fetch_weights import fetch_weights

CONTENT = np.random.default_rng(0).bytes(3_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT at /file; other paths misbehave as their names say."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
        elif self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
        else:
            self.send_response(200)
            if self.path != "/no_length":
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: 2_000_000 if self.path == "/truncated" else None])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    seen: list[str] = []
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"seen": seen}))
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{web.server_port}", seen=seen, web=web)
    web.shutdown()
    web.server_close()
    thread.join()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("path", ["/file", "/no_length"])
def test_a_file_is_fetched_whole(server: SimpleNamespace, tmp_path: Path, path: str) -> None:
    fetch_weights(url=server.url + path, sha256=SHA256.upper(), out=tmp_path / "deep" / "cpsam")
    assert (tmp_path / "deep" / "cpsam").read_bytes() == CONTENT
    assert leftovers(tmp_path / "deep") == ["cpsam"]


def test_a_file_that_is_there_is_not_fetched_again_and_another_is_not_overwritten(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    out = tmp_path / "cpsam"
    for _ in range(2):
        fetch_weights(url=server.url + "/file", sha256=SHA256, out=out)
    assert server.seen == ["/file"]
    out.write_bytes(b"something else")
    with pytest.raises(InputError, match="exists and is not the file of that SHA-256"):
        fetch_weights(url=server.url + "/file", sha256=SHA256, out=out)
    assert out.read_bytes() == b"something else" and server.seen == ["/file"]


def test_a_truncated_answer_is_an_error_and_leaves_nothing(server: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/truncated: the download failed: .*2000000 bytes read"):
        fetch_weights(url=server.url + "/truncated", sha256=SHA256, out=tmp_path / "cpsam")
    assert leftovers(tmp_path) == []


def test_a_file_with_another_hash_is_refused_and_deleted(server: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"/file: not the file of that SHA-256, and deleted.*{SHA256}"):
        fetch_weights(url=server.url + "/file", sha256="0" * 64, out=tmp_path / "cpsam")
    assert leftovers(tmp_path) == []


def test_a_redirect_is_followed_but_not_to_an_unsafe_address(server: SimpleNamespace, tmp_path: Path) -> None:
    fetch_weights(url=f"{server.url}/to?/file", sha256=SHA256, out=tmp_path / "cpsam")
    assert (tmp_path / "cpsam").read_bytes() == CONTENT
    with pytest.raises(InputError, match="http://example.org/file: only https"):
        fetch_weights(url=f"{server.url}/to?http://example.org/file", sha256=SHA256, out=tmp_path / "b")
    assert leftovers(tmp_path) == ["cpsam"]


def test_refusals_name_the_address(server: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "cpsam"
    with pytest.raises(InputError, match="/missing: the download failed: 404"):
        fetch_weights(url=server.url + "/missing", sha256=SHA256, out=out)
    for url in ("http://example.org/cpsam", "ftp://127.0.0.1/cpsam", "file:///etc/hostname", "cpsam"):
        with pytest.raises(InputError, match="only https"):
            fetch_weights(url=url, sha256=SHA256, out=out)
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        fetch_weights(url=server.url + "/file", sha256="abc", out=out)
    with pytest.raises(InputError, match="/file: the download failed: .*refused"):
        fetch_weights(url="http://127.0.0.1:9/file", sha256=SHA256, out=out)
    assert leftovers(tmp_path) == []


def test_certificates_are_verified_even_where_another_library_switched_that_off(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.web.socket = context.wrap_socket(server.web.socket, server_side=True)
    url = server.url.replace("http:", "https:") + "/file"
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_weights(url=url, sha256=SHA256, out=tmp_path / "cpsam")
    assert server.seen == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    fetch_weights(url=url, sha256=SHA256, out=tmp_path / "cpsam")
    assert (tmp_path / "cpsam").read_bytes() == CONTENT


def test_the_command_line_fetches_and_a_fault_is_one_line(server: SimpleNamespace, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "buffycoat.crop.fetch_weights", "--sha256", SHA256, "--out", str(tmp_path / "f")]
    done = subprocess.run([*command, "--url", server.url + "/file"], capture_output=True, text=True)
    assert done.returncode == 0 and "3.50M/3.50M" in done.stderr
    assert (tmp_path / "f").read_bytes() == CONTENT
    (tmp_path / "f").unlink()
    failed = subprocess.run([*command, "--url", server.url + "/missing"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines()[-1].startswith("fetch_weights: error: http://127.0.0.1")
