"""Fetch a weights file: the one place that touches a network, run by hand and never by the workflow.

Over TLS with certificates verified, checked against the SHA-256 that is given, resumed where it was interrupted.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.core.progress import Progress
from buffycoat.core.steps import run

log = logging.getLogger("buffycoat")

BLOCK = 1 << 20
TIMEOUT_S = 60.0
"""Without a byte for so long, the connection is given up."""
AGAIN = "run the same command again to continue"


def fetch_weights(*, url: str, sha256: str, out: Path) -> None:
    """Fetch a file over https, check its SHA-256, and put it at `out`; an interrupted fetch is continued.

    What has come so far is in `out` with .part added. Raises InputError where the address is not https (or http on
    this machine), the server refuses, the connection breaks, or the hash is another: nothing is then at `out`.
    """
    wanted = sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InputError(f"--sha256: {sha256!r} is not a SHA-256: 64 hexadecimal digits")
    _require_safe(url)
    if _already_there(out, wanted):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    digest, have = _hash_so_far(part)
    if digest.hexdigest() != wanted:
        digest = _receive(url, part, digest, have)
    if digest.hexdigest() != wanted:
        kept = out.with_name(f"{out.name}.rejected")
        os.replace(part, kept)
        raise InputError(
            f"{url}: the SHA-256 of what came is {digest.hexdigest()}, not {wanted}; it is kept as {kept} for a look:"
            " compare the address and the hash with the publisher's page, then run again to fetch it anew"
        )
    os.replace(part, out)
    log.info("%s: fetched, SHA-256 as given", out)


def _already_there(out: Path, wanted: str) -> bool:
    if not out.exists():
        return False
    if not out.is_file() or sha256_of(out) != wanted:
        raise InputError(f"--out: {out} exists and is not the file of that SHA-256; move it away or name another")
    log.info("%s: already there, SHA-256 as given", out)
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_safe(url: str, local: bool = True) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (local and parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    raise InputError(f"{url}: only https addresses are fetched, which nobody on the way can change")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to an address that could not have been given either."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        """Return the request of the next address; raises InputError where it is not https."""
        _require_safe(newurl, local=_is_loopback(urllib.parse.urlsplit(req.full_url).hostname or ""))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _hash_so_far(part: Path) -> tuple[Any, int]:
    digest, have = hashlib.sha256(), 0
    if part.exists():
        with part.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                have += len(block)
    return digest, have


@contextmanager
def _described(url: str, part: Path) -> Iterator[None]:
    """Turn what can go wrong on a network into one sentence."""
    try:
        yield
    except urllib.error.HTTPError as problem:
        if problem.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise InputError(f"{part}: not the beginning of {url}; delete it and run again") from None
        raise InputError(f"{url}: the server answers {problem.code} {problem.reason}") from None
    except urllib.error.URLError as problem:
        raise InputError(f"{url}: no connection ({problem.reason}); {AGAIN}") from None
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as problem:
        raise InputError(f"{url}: the connection broke ({problem or type(problem).__name__}); {AGAIN}") from None
    except KeyboardInterrupt:
        log.warning("interrupted; what has come is kept: %s", AGAIN)
        raise


def _receive(url: str, part: Path, digest: Any, have: int) -> Any:
    """Append what is missing of `url` to `part`; return the hash of the whole of it."""
    # An explicit context: another library may have replaced the process-wide default by one that verifies nothing.
    secure = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    opener = urllib.request.build_opener(secure, _SafeRedirects)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _described(url, part), opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        if have and not _continues(answer, have):
            log.info("%s: the server sends it from the start again", url)
            digest, have = hashlib.sha256(), 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        _require_room(part, total, have)
        with part.open("ab" if have else "wb") as stream:
            have = _copy(answer, stream, digest, have, total)
    if total is not None and have < total:
        raise InputError(f"{url}: the connection ended after {have} of {total} bytes; {AGAIN}")
    return digest


def _continues(answer: Any, have: int) -> bool:
    begins = str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
    return bool(answer.status == http.HTTPStatus.PARTIAL_CONTENT and begins)


def _require_room(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise InputError(f"{part.parent}: {total - have} bytes are needed and {free} are free")


def _copy(answer: Any, stream: Any, digest: Any, have: int, total: int | None) -> int:
    if have:
        log.info("fetch_weights: %d MiB are there, the rest is fetched", have // BLOCK)
    if total is None:
        log.info("fetch_weights: the server does not say how large the file is")
    progress = Progress("fetch_weights", (total - have) // BLOCK, unit="MiB") if total is not None else None
    while block := answer.read(BLOCK):
        stream.write(block)
        digest.update(block)
        before, have = have, have + len(block)
        if progress is not None and have // BLOCK > before // BLOCK:
            progress.step(have // BLOCK - before // BLOCK)
    return have


if __name__ == "__main__":
    run(fetch_weights)
