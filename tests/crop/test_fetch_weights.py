"""Fetching from a real server on this machine: whole, resumed, refused, broken off, redirected, over TLS."""

from __future__ import annotations

import hashlib
import logging
import shutil
import ssl
import subprocess
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

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.seen.append((self.path, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.path != "/no_ranges" else 0
        if self.path == "/missing":
            self.send_error(404)
        elif self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
        elif start >= len(CONTENT):
            self.send_error(416)
        else:
            self.send_content(start, partial=bool(asked) and self.path != "/no_ranges")

    def send_content(self, start: int, partial: bool) -> None:
        self.send_response(206 if partial else 200)
        if partial:
            first = 0 if self.path == "/wrong_range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if self.path != "/no_length":
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = 2_000_000 if self.path == "/truncated" and not partial else len(CONTENT)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    seen: list[tuple[str, str | None]] = []
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
def test_a_file_is_fetched_whole(
    server: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.INFO, "buffycoat"):
        fetch_weights(url=server.url + path, sha256=SHA256.upper(), out=tmp_path / "deep" / "cpsam")
    assert (tmp_path / "deep" / "cpsam").read_bytes() == CONTENT
    assert leftovers(tmp_path / "deep") == ["cpsam"]
    assert ("3/3 MiB" if path == "/file" else "does not say how large") in caplog.text


def test_a_file_that_is_there_is_not_fetched_again_and_another_is_not_overwritten(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    out = tmp_path / "cpsam"
    out.write_bytes(CONTENT)
    fetch_weights(url=server.url + "/file", sha256=SHA256, out=out)
    assert server.seen == []
    out.write_bytes(b"something else")
    with pytest.raises(InputError, match="exists and is not the file of that SHA-256"):
        fetch_weights(url=server.url + "/file", sha256=SHA256, out=out)
    assert out.read_bytes() == b"something else"


@pytest.mark.parametrize("path", ["/file", "/no_ranges", "/wrong_range"])
def test_an_interrupted_fetch_is_continued_or_begun_anew(server: SimpleNamespace, tmp_path: Path, path: str) -> None:
    (tmp_path / "cpsam.part").write_bytes(CONTENT[:1_234_567])
    if path == "/wrong_range":
        # A server that claims a range it does not send: its bytes are not appended to ours.
        with pytest.raises(InputError, match="the SHA-256 of what came is"):
            fetch_weights(url=server.url + path, sha256=SHA256, out=tmp_path / "cpsam")
        assert (tmp_path / "cpsam.rejected").read_bytes() == CONTENT[1_234_567:]
        return
    fetch_weights(url=server.url + path, sha256=SHA256, out=tmp_path / "cpsam")
    assert (tmp_path / "cpsam").read_bytes() == CONTENT and leftovers(tmp_path) == ["cpsam"]
    assert server.seen == [(path, "bytes=1234567-")]


def test_a_truncated_answer_says_so_and_the_next_run_fetches_the_rest(server: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "cpsam"
    with pytest.raises(InputError, match="ended after 2000000 of 3500000 bytes; run the same command again"):
        fetch_weights(url=server.url + "/truncated", sha256=SHA256, out=out)
    assert leftovers(tmp_path) == ["cpsam.part"]
    fetch_weights(url=server.url + "/truncated", sha256=SHA256, out=out)
    assert out.read_bytes() == CONTENT
    assert server.seen == [("/truncated", None), ("/truncated", "bytes=2000000-")]


def test_a_whole_part_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "cpsam.part").write_bytes(CONTENT)
    fetch_weights(url="https://127.0.0.1:9/file", sha256=SHA256, out=tmp_path / "cpsam")
    assert (tmp_path / "cpsam").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_named(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "cpsam.part").write_bytes(CONTENT + b"more")
    with pytest.raises(InputError, match=r"cpsam\.part: not the beginning of"):
        fetch_weights(url=server.url + "/file", sha256=SHA256, out=tmp_path / "cpsam")


def test_a_wrong_hash_keeps_the_file_aside_and_out_of_use(server: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"is {SHA256}, not {'0' * 64}; it is kept as .*cpsam\.rejected"):
        fetch_weights(url=server.url + "/file", sha256="0" * 64, out=tmp_path / "cpsam")
    assert leftovers(tmp_path) == ["cpsam.rejected"]


def test_a_redirect_is_followed_with_the_range_but_not_to_an_unsafe_address(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "cpsam.part").write_bytes(CONTENT[:1000])
    fetch_weights(url=f"{server.url}/to?{server.url}/file", sha256=SHA256, out=tmp_path / "cpsam")
    assert (tmp_path / "cpsam").read_bytes() == CONTENT
    assert server.seen[-1] == ("/file", "bytes=1000-")
    with pytest.raises(InputError, match="http://example.org/file: only https"):
        fetch_weights(url=f"{server.url}/to?http://example.org/file", sha256=SHA256, out=tmp_path / "b")


def test_refusals_name_the_address(server: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "cpsam"
    with pytest.raises(InputError, match="/missing: the server answers 404 Not Found"):
        fetch_weights(url=server.url + "/missing", sha256=SHA256, out=out)
    for url in ("http://example.org/cpsam", "ftp://127.0.0.1/cpsam", "file:///etc/hostname", "cpsam"):
        with pytest.raises(InputError, match="only https"):
            fetch_weights(url=url, sha256=SHA256, out=out)
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        fetch_weights(url=server.url + "/file", sha256="abc", out=out)
    with pytest.raises(InputError, match="no connection"):
        fetch_weights(url="http://127.0.0.1:9/file", sha256=SHA256, out=out)
    assert leftovers(tmp_path) == []


def test_too_small_a_disk_is_seen_before_the_fetch(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="3500000 bytes are needed and 1000 are free"):
        fetch_weights(url=server.url + "/file", sha256=SHA256, out=tmp_path / "cpsam")
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
    with pytest.raises(InputError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_weights(url=url, sha256=SHA256, out=tmp_path / "cpsam")
    assert server.seen == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetch_weights(url=url, sha256=SHA256, out=tmp_path / "cpsam")
    assert (tmp_path / "cpsam").read_bytes() == CONTENT


def test_the_command_line_fetches_and_a_fault_is_one_line(server: SimpleNamespace, tmp_path: Path) -> None:
    import sys

    command = [sys.executable, "-m", "buffycoat.crop.fetch_weights", "--sha256", SHA256, "--out", str(tmp_path / "f")]
    done = subprocess.run([*command, "--url", server.url + "/file"], capture_output=True, text=True)
    assert done.returncode == 0 and "MiB" in done.stderr
    assert (tmp_path / "f").read_bytes() == CONTENT
    (tmp_path / "f").unlink()
    failed = subprocess.run([*command, "--url", server.url + "/missing"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines()[-1].startswith("fetch_weights: error: http://127.0.0.1")
