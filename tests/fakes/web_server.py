"""A web server of one object whose manners a test chooses."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Manners", "WebServer", "web_server"]


@dataclass
class Manners:
    """How the object is served.

    `etag`, `modified`: headers, "" for none. `ranges`: whether Range is known; `conditions`:
    whether If-Match is. `head`: status of HEAD, 200 to answer. `chunked`: no Content-Length.
    `breaks`: how many answers break off after some bytes. `redirect`: to where.
    `stalls`: what an answer waits for after some bytes.
    """

    body: bytes = b"0123456789" * 10
    etag: str = '"v1"'
    modified: str = "Wed, 21 Oct 2015 07:28:00 GMT"
    ranges: bool = True
    conditions: bool = True
    head: int = 200
    status: int = 200
    chunked: bool = False
    breaks: int = 0
    redirect: str = ""
    stalls: threading.Event | None = None


@dataclass
class WebServer:
    """`asked`: (verb, path with query, Range header) of every request. `url`: without a path."""

    url: str
    manners: Manners = field(default_factory=Manners)
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Serve on a port of its own, until the block is left."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(site.manners, with_body=False)

        def do_GET(self) -> None:
            self._answer(site.manners, with_body=True)

        def _answer(self, manners: Manners, *, with_body: bool) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append((self.command, self.path, wanted))
            status = manners.status if with_body or manners.head == 200 else manners.head
            if manners.redirect and manners.redirect != self.path:
                self.send_response(302)
                self.send_header("Location", manners.redirect)
                status = 302
            elif status == 200:
                condition = self.headers.get("If-Match", "")
                if condition and manners.conditions and condition != manners.etag:
                    status = 412
            if status != 200:
                if status != 302:
                    self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._object(manners, wanted, with_body=with_body)

        def _object(self, manners: Manners, wanted: str, *, with_body: bool) -> None:
            body, size = manners.body, len(manners.body)
            if wanted and manners.ranges:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                if int(first) >= size:
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                end = min(size, int(last) + 1) if last else size
                body = body[int(first) : end]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
            else:
                self.send_response(200)
            if manners.etag:
                self.send_header("ETag", manners.etag)
            if manners.modified:
                self.send_header("Last-Modified", manners.modified)
            if manners.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body and manners.breaks:
                manners.breaks -= 1
                self.wfile.write(body[:5])
                self.close_connection = True
            elif with_body and manners.stalls is not None:
                self.wfile.write(body[:5])
                manners.stalls.wait(60)
            elif with_body:
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    site = WebServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
