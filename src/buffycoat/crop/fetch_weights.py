"""Fetch a weights file: the one place that touches a network, run by hand and never by the workflow.

Pooch downloads, over TLS with certificates verified, and checks the SHA-256 before the file is put in place. It does
not resume: an interrupted download leaves nothing and starts anew.
"""

from __future__ import annotations

import logging
import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.core.steps import run

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger("buffycoat")
BLOCK = 1 << 20
"""Bytes that are received at once."""
TIMEOUT_S = 60.0
"""Without a byte for so long, the connection is given up."""


def fetch_weights(*, url: str, sha256: str, out: Path) -> None:
    """Download a file over https and put it at `out`, whole, if its SHA-256 is `sha256`; no file is replaced.

    Raises InputError where the address is not https (or http on this machine), the server refuses, the connection
    breaks, the hash is another, or `out` is another file. Nothing is then left.
    """
    wanted = sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InputError(f"--sha256: {sha256!r} is not a SHA-256: 64 hexadecimal digits")
    require_safe(url)
    if out.exists():
        if not out.is_file() or sha256_of(out) != wanted:
            raise InputError(f"--out: {out} exists and is not the file of that SHA-256; move it away or name another")
        log.info("%s: already there, SHA-256 as given", out)
        return
    download(url, wanted, out)
    log.info("%s: fetched, SHA-256 as given", out)


def download(url: str, sha256: str, out: Path) -> None:
    """Download `url` to `out`, which appears whole and with this SHA-256 or not at all; raises InputError."""
    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(
        progressbar=True, chunk_size=BLOCK, timeout=TIMEOUT_S, hooks={"response": require_safe_redirect}
    )
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=out.name, path=out.parent, downloader=downloader)
    except RequestException as problem:
        raise InputError(f"{url}: the download failed: {problem}") from None
    except ValueError as problem:
        raise InputError(
            f"{url}: not the file of that SHA-256, and deleted ({problem}); compare the address and the hash with the"
            " publisher's page"
        ) from None


def require_safe(url: str, local: bool = True) -> None:
    """Raise InputError where an address is not https; http is allowed to this machine where `local`."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (local and parts.scheme == "http" and is_loopback(parts.hostname)):
        return
    raise InputError(f"{url}: only https addresses are fetched, which nobody on the way can change")


def require_safe_redirect(answer: Response, *_: Any, **__: Any) -> None:
    """Raise InputError where a server sends on to an address that could not have been given either."""
    if answer.is_redirect:
        require_safe(urljoin(answer.url, answer.headers["location"]), local=is_loopback(urlsplit(answer.url).hostname))


def is_loopback(host: str | None) -> bool:
    """Return whether a host is this machine."""
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    run(fetch_weights)
