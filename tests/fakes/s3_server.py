"""An S3-compatible server for tests: the real protocol over HTTP, and faults when a test wants.

    with s3_server(["bucket"]) as s3:
        s3.put("bucket", "in/a.csv", b"1,2\\n")
        ...  # a job with storage.s3_endpoint_url = s3.url, in this process or in another
        assert s3.get("bucket", "out/a.csv.out") == b"3\\n"
        assert s3.uploads == {}  # no multipart upload was left unfinished
        assert s3.asked["GetObject"] == 1

Faults are set at any time, for requests from then on (`fakes.s3_buckets` says which there are):

        s3.faults = Faults(chances={"throttle": 0.1, "cut_body": 0.1}, seed=1, in_a_row_max=2)
        s3.faults = Faults(at={("UploadPart", s3.asked["UploadPart"] + 2): "lost"})

Buckets stand in the path. Any key and signature will do. It knows: CreateBucket, HeadBucket,
ListObjectsV2, GetObject, HeadObject, PutObject, CopyObject, DeleteObject, DeleteObjects,
multipart uploads with their lists; Range, If-Match, If-None-Match; nothing of versions, access
control and encryption. Listings have at most `page_max` keys. Parts but the last must have
`part_bytes_min` bytes, 5 MiB as in S3. With a `folder` bytes lie in files, for objects larger
than memory; nothing of it is read again by another server. `delay_s`: before every answer.

Source: Amazon S3 API Reference.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import itertools
import threading
import time
import xml.etree.ElementTree as Xml
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from fakes.s3_answers import (
    LostConnection,
    Refusal,
    document,
    moment,
    refusal_document,
    span_of,
    tag,
)
from fakes.s3_buckets import PIECE_BYTES, Body, Bucket, Faults, Stored, Upload, take_body

__all__ = ["Faults", "S3Server", "s3_server"]

KEPT_HEADERS = ("content-type", "content-encoding", "cache-control", "content-disposition")


class S3Server:
    """`asked`: requests so far, by operation. `failed`: those that a fault befell, by kind.

    `busy_max`: most requests of an operation at one time. `uploads`: unfinished ones, by id.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.url = ""
        self.folder = folder
        self.buckets: dict[str, Bucket] = {}
        self.uploads: dict[str, Upload] = {}
        self.faults = Faults()
        self.page_max = 1000
        self.part_bytes_min = 5 << 20
        self.delay_s = 0.0
        self.asked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.busy_max: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._busy: Counter[str] = Counter()
        self._names = itertools.count()

    def name(self) -> str:
        """One that nothing else has."""
        return f"n{next(self._names)}"

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Store an object; no request."""
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        self.buckets[bucket].put(key, Stored(Body([(len(body), body)]), etag))

    def get(self, bucket: str, key: str) -> bytes:
        """The bytes of an object; no request. KeyError if it is not there."""
        body = self.buckets[bucket].objects[key].body
        return b"".join(body.pieces(0, body.size))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys; no request."""
        return sorted(key for key in self.buckets[bucket].objects if key.startswith(prefix))

    @contextmanager
    def busy(self, operation: str) -> Iterator[int]:
        """Count a request; the how-manieth of its operation it is."""
        with self.lock:
            self.asked[operation] += 1
            number = self.asked[operation]
            self._busy[operation] += 1
            self.busy_max[operation] = max(self.busy_max[operation], self._busy[operation])
        try:
            yield number
        finally:
            with self.lock:
                self._busy[operation] -= 1


@contextmanager
def s3_server(buckets: Iterable[str] = (), folder: Path | None = None) -> Iterator[S3Server]:
    """Serve on a port of its own, until the block is left."""
    state = S3Server(folder)
    for bucket in buckets:
        state.buckets[bucket] = Bucket()
    handler = type("Handler", (_Handler,), {"state": state})
    server = _Server(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection. What S3 would answer is computed by the method of the operation's name."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 600
    state: S3Server

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        self.bucket, self.key = bucket, key
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.fault, self.read_all = "", False
        operation = self._operation()
        told = sorted((name, value) for name, value in self.query.items() if name != "uploadId")
        request = f"{operation} {parts.path} {told} {self.headers.get('Range', '')}"
        with self.state.busy(operation) as number, contextlib.suppress(LostConnection):
            try:
                with self.state.lock:
                    self.fault = self.state.faults.next(operation, number, self.key, request)
                    if self.fault:
                        self.state.failed[self.fault] += 1
                if self.state.delay_s:
                    self.state.closing.wait(self.state.delay_s)
                self._fail_early()
                getattr(self, operation)()
            except Refusal as refusal:
                self._drain()
                self._answer(refusal.status, refusal_document(refusal))
            return
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _operation(self) -> str:
        if not self.key:
            if self.command == "GET" and "uploads" in self.query:
                return "ListMultipartUploads"
            if self.command == "POST" and "delete" in self.query:
                return "DeleteObjects"
            names = {"GET": "ListObjectsV2", "HEAD": "HeadBucket", "PUT": "CreateBucket"}
        elif "uploadId" in self.query:
            names = {
                "PUT": "UploadPart",
                "POST": "CompleteMultipartUpload",
                "DELETE": "AbortMultipartUpload",
                "GET": "ListParts",
            }
        elif "uploads" in self.query:
            names = {"POST": "CreateMultipartUpload"}
        else:
            put = "CopyObject" if "x-amz-copy-source" in self.headers else "PutObject"
            names = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": put, "DELETE": "DeleteObject"}
        return names.get(self.command, "NotImplemented")

    # -- faults ----------------------------------------------------------------------------

    def _fail_early(self) -> None:
        if self.fault == "stall":
            self._drain()
            self.state.closing.wait(self.state.faults.stall_s)
        if self.fault in ("stall", "cut"):
            self._drain()
            raise LostConnection
        if self.fault == "throttle":
            raise Refusal(503, "SlowDown", "Please reduce your request rate.")
        if self.fault == "too_many":
            raise Refusal(429, "TooManyRequests", "Please reduce your request rate.")
        if self.fault == "error":
            raise Refusal(500, "InternalError", "We encountered an internal error.")

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        kind = {"Content_Type": "application/xml"} if body else {}
        self._stream(status, Body([(len(body), body)]), (0, len(body)), kind | headers)

    def _stream(
        self, status: int, body: Body, span: tuple[int, int], headers: dict[str, str]
    ) -> None:
        if self.fault == "lost":
            raise LostConnection
        start, stop = span
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        is_broken = self.fault in ("cut_body", "stall_body")
        for piece in body.pieces(start, (start + stop) // 2 if is_broken else stop):
            self.wfile.write(piece)
        if self.fault == "stall_body":
            self.state.closing.wait(self.state.faults.stall_s)
        if is_broken:
            raise LostConnection

    # -- requests --------------------------------------------------------------------------

    def _body(self) -> Iterator[bytes]:
        self.read_all = True
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers: checksums
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, PIECE_BYTES))
            if not piece:
                raise LostConnection
            left -= len(piece)
            yield piece

    def _drain(self) -> None:
        if not self.read_all:
            for _ in self._body():
                pass

    def _take(self) -> tuple[Body, bytes]:
        taken = take_body(self._body(), self.state.folder, self.state.name())
        wanted = self.headers.get("Content-MD5")
        if wanted and base64.b64decode(wanted) != taken[1]:
            raise Refusal(400, "BadDigest")
        return taken

    def _here(self) -> Bucket:
        if self.bucket not in self.state.buckets:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        return self.state.buckets[self.bucket]

    def _kept(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in KEPT_HEADERS or name.lower().startswith("x-amz-meta-")
        }
        if kept.get("Content-Encoding", "").startswith("aws-chunked"):
            del kept["Content-Encoding"]
        return kept

    def _stored(self) -> Stored:
        stored = self._here().objects.get(self.key)
        if stored is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        match, none_match = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if match not in (None, "*", stored.etag, stored.etag.strip('"')):
            raise Refusal(412, "PreconditionFailed")
        if none_match in ("*", stored.etag, stored.etag.strip('"')):
            raise Refusal(304 if self.command in ("GET", "HEAD") else 412, "PreconditionFailed")
        return stored

    def _check_replaceable(self) -> None:
        """If-Match and If-None-Match of writes. Source: S3 User Guide, conditional writes."""
        if self.key in self._here().objects:
            self._stored()
        elif "If-Match" in self.headers:
            raise Refusal(404, "NoSuchKey")

    # -- operations ------------------------------------------------------------------------

    def NotImplemented(self) -> None:
        raise Refusal(501, "NotImplemented")

    def CreateBucket(self) -> None:
        self._drain()
        self.state.buckets.setdefault(self.bucket, Bucket())
        self._answer(200, Location=f"/{self.bucket}")

    def HeadBucket(self) -> None:
        self._here()
        self._answer(200)

    def ListObjectsV2(self) -> None:
        if self.query.get("list-type") != "2":
            raise Refusal(501, "NotImplemented")
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        token = self.query.get("continuation-token", "")
        after = base64.urlsafe_b64decode(token).decode() if token else ""
        keys_max = min(int(self.query.get("max-keys", 1000)), self.state.page_max)
        page, more = self._here().page(
            prefix, after or self.query.get("start-after", ""), delimiter, keys_max
        )
        encoded = self.query.get("encoding-type") == "url"
        show = (lambda text: quote(text, safe="/")) if encoded else escape
        lines = [
            tag("Name", self.bucket),
            f"<Prefix>{show(prefix)}</Prefix>",
            tag("KeyCount", len(page)),
            tag("MaxKeys", keys_max),
            tag("IsTruncated", str(more).lower()),
        ]
        lines += ["<EncodingType>url</EncodingType>"] if encoded else []
        lines += [f"<Delimiter>{show(delimiter)}</Delimiter>"] if delimiter else []
        if more:
            following = base64.urlsafe_b64encode(page[-1][0].encode()).decode()
            lines.append(tag("NextContinuationToken", following))
        for key, stored in page:
            if stored is None:
                lines.append(f"<CommonPrefixes><Prefix>{show(key)}</Prefix></CommonPrefixes>")
                continue
            lines.append(
                f"<Contents><Key>{show(key)}</Key>"
                f"<LastModified>{moment(stored.modified)}</LastModified>"
                f"<ETag>{escape(stored.etag)}</ETag><Size>{stored.body.size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        self._answer(200, document("ListBucketResult", *lines))

    def HeadObject(self) -> None:
        self.GetObject()

    def GetObject(self) -> None:
        stored = self._stored()
        size = stored.body.size
        start, stop, status = *span_of(self.headers.get("Range", ""), size), 200
        headers = {"Content-Type": "binary/octet-stream"} | stored.headers
        headers["ETag"] = stored.etag
        headers["Last-Modified"] = formatdate(stored.modified, usegmt=True)
        headers["Accept-Ranges"] = "bytes"
        if "Range" in self.headers:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._stream(status, stored.body, (start, stop), headers)

    def PutObject(self) -> None:
        self._here()
        body, digest = self._take()
        etag = f'"{digest.hex()}"'
        with self.state.lock:
            self._check_replaceable()
            self._here().put(self.key, Stored(body, etag, self._kept()))
        self._answer(200, ETag=etag)

    def CopyObject(self) -> None:
        bucket, _, key = unquote(self.headers["x-amz-copy-source"]).removeprefix("/").partition("/")
        source = self.state.buckets.get(bucket, Bucket()).objects.get(key)
        if source is None:
            raise Refusal(404, "NoSuchKey")
        self._here().put(self.key, Stored(source.body, source.etag, source.headers))
        lines = tag("ETag", source.etag), tag("LastModified", moment(time.time()))
        self._answer(200, document("CopyObjectResult", *lines))

    def DeleteObject(self) -> None:
        self._here().delete(self.key)
        self._answer(204)

    def DeleteObjects(self) -> None:
        told = Xml.fromstring(b"".join(self._body()))
        keys = [found.text or "" for found in told.iterfind("{*}Object/{*}Key")]
        for key in keys:
            self._here().delete(key)
        lines = [f"<Deleted>{tag('Key', key)}</Deleted>" for key in keys]
        self._answer(200, document("DeleteResult", *lines))

    # -- multipart uploads -----------------------------------------------------------------

    def _upload(self) -> Upload:
        upload = self.state.uploads.get(self.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (self.bucket, self.key):
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def CreateMultipartUpload(self) -> None:
        self._here()
        self._drain()
        name = self.state.name()
        self.state.uploads[name] = Upload(self.bucket, self.key, self._kept())
        lines = tag("Bucket", self.bucket), tag("Key", self.key), tag("UploadId", name)
        self._answer(200, document("InitiateMultipartUploadResult", *lines))

    def UploadPart(self) -> None:
        upload, number = self._upload(), int(self.query["partNumber"])
        if not 1 <= number <= 10_000:
            raise Refusal(400, "InvalidArgument", "Part number must be in 1 to 10000")
        upload.parts[number] = taken = self._take()
        self._answer(200, ETag=f'"{taken[1].hex()}"')

    def CompleteMultipartUpload(self) -> None:
        told = Xml.fromstring(b"".join(self._body()))
        wanted = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip('"'))
            for part in told.iterfind("{*}Part")
        ]
        with self.state.lock:
            upload = self._upload()
            self._check_replaceable()
            body, digest = self._join(upload, wanted)
            if self.fault == "late_error":
                refusal = Refusal(200, "InternalError", "We encountered an internal error.")
                self._answer(200, refusal_document(refusal))
                return
            etag = f'"{hashlib.md5(digest, usedforsecurity=False).hexdigest()}-{len(wanted)}"'
            self._here().put(self.key, Stored(body, etag, upload.headers))
            del self.state.uploads[self.query["uploadId"]]
        lines = tag("Bucket", self.bucket), tag("Key", self.key), tag("ETag", etag)
        self._answer(200, document("CompleteMultipartUploadResult", *lines))

    def _join(self, upload: Upload, wanted: list[tuple[int, str]]) -> tuple[Body, bytes]:
        if not wanted:
            raise Refusal(400, "MalformedXML")
        if wanted != sorted(wanted):
            raise Refusal(400, "InvalidPartOrder")
        body, digest = Body([]), b""
        for number, etag in wanted:
            part = upload.parts.get(number)
            if part is None or part[1].hex() != etag:
                raise Refusal(400, "InvalidPart")
            if number != wanted[-1][0] and part[0].size < self.state.part_bytes_min:
                raise Refusal(400, "EntityTooSmall")
            body, digest = body + part[0], digest + part[1]
        return body, digest

    def AbortMultipartUpload(self) -> None:
        self._upload()
        self.state.uploads.pop(self.query["uploadId"], None)
        self._answer(204)

    def ListParts(self) -> None:
        lines = [tag("UploadId", self.query["uploadId"]), tag("IsTruncated", "false")]
        for number, (body, digest) in sorted(self._upload().parts.items()):
            inner = tag("PartNumber", number) + tag("ETag", f'"{digest.hex()}"')
            lines.append(f"<Part>{inner}{tag('Size', body.size)}</Part>")
        self._answer(200, document("ListPartsResult", *lines))

    def ListMultipartUploads(self) -> None:
        self._here()
        prefix = self.query.get("prefix", "")
        lines = [tag("Bucket", self.bucket), tag("IsTruncated", "false")]
        for name, upload in sorted(self.state.uploads.items()):
            if upload.bucket == self.bucket and upload.key.startswith(prefix):
                inner = tag("Key", upload.key) + tag("UploadId", name)
                lines.append(f"<Upload>{inner}</Upload>")
        self._answer(200, document("ListMultipartUploadsResult", *lines))
