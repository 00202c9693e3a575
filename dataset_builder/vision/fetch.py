"""Fetching images from addresses that strangers wrote down.

Only http and https are spoken, only to public addresses, after redirects too, and never through a
proxy: a data set must not be able to make this machine read its own files or its neighbours'.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from dataset_builder.vision.images import MAX_BYTES, Rejected

TIMEOUT = 10.0  # seconds for each answer of a server
DEADLINE = 60.0  # seconds for one image, so that a server that drips bytes holds up nobody
RETRY_DELAYS = (0.5, 2.0)  # seconds
RETRIED_STATUS = (429, 500, 502, 503, 504)
CHUNK = 1 << 16
USER_AGENT = "Mozilla/5.0 (compatible; image corpus builder)"


def is_public(address: str) -> bool:
    """Whether an IP address may be reached: neither private, loopback, link-local nor the like."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not (mapped or ip).is_multicast


def fetch(url: str) -> bytes:
    """The bytes behind `url`.

    Raises:
        Rejected: "bad address", "private address", "http 404" and the like, "timeout",
            "unreachable" or "too many bytes".
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and url.isascii()
    except ValueError:
        usable = False
    if not usable or any(character <= " " for character in url):
        raise Rejected("bad address")
    for delay in (*RETRY_DELAYS, None):
        try:
            return _fetch_once(url)
        except _Transient as error:
            if delay is None:
                raise Rejected(str(error)) from None
            time.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


class _Transient(Exception):
    """A failure that may pass; the message is the reason if it does not."""


def _fetch_once(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, "Accept": "image/*"})
    deadline = time.monotonic() + DEADLINE
    try:
        with _opener().open(request, timeout=TIMEOUT) as answer:
            return _read(answer, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        raise (_Transient if error.code in RETRIED_STATUS else Rejected)(
            f"http {error.code}"
        ) from None
    except TimeoutError:
        raise _Transient("timeout") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _Transient("timeout") from None
        raise _Transient("unreachable") from None
    except (OSError, http.client.HTTPException):
        raise _Transient("unreachable") from None
    except ValueError:  # an address or a redirect that the standard library cannot parse
        raise Rejected("bad address") from None


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    data = bytearray()
    while chunk := answer.read1(CHUNK):
        data += chunk
        if len(data) > MAX_BYTES:
            raise Rejected("too many bytes")
        if time.monotonic() > deadline:
            raise Rejected("timeout")
    if answer.length:  # bytes announced and not sent
        raise _Transient("unreachable")
    return bytes(data)


def _connect_publicly(
    address: tuple[str, int], timeout: float, source_address: tuple[str, int] | None = None
) -> socket.socket:
    """Resolve once, and connect to a public address of the answer only: a name that resolves
    differently the second time gains nothing."""
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise Rejected("bad address") from None
    public = [str(entry[4][0]) for entry in found if is_public(str(entry[4][0]))]
    if not public:
        raise Rejected("private address")
    for ip in public[:-1]:
        try:
            return socket.create_connection((ip, port), timeout, source_address)
        except OSError:
            continue  # the next address may answer, as where IPv6 has no route
    return socket.create_connection((public[-1], port), timeout, source_address)


class _PublicHTTP(http.client.HTTPConnection):
    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = _connect_publicly


class _PublicHTTPS(http.client.HTTPSConnection):
    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = _connect_publicly


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicHTTP, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicHTTPS, req)


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    handlers: tuple[Callable[[], urllib.request.BaseHandler], ...] = (
        _HTTPHandler,
        _HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener
