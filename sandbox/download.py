# SPDX-License-Identifier: GPL-3.0-or-later
"""Receives a file over HTTP: resumes what was cut, gives up on what is slow."""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import IO, BinaryIO

CHUNK = 256 * 1024
GONE = (404, 410)
BUSY = (429, 500, 502, 503, 504)

# Called with the bytes received so far and the bytes expected; 0 where the server does not say.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """How long a server may take, in seconds, and how often it is asked again."""

    connect: float = 3.0
    silence: float = 20.0
    window: float = 20.0
    bytes_per_second: float = 50_000
    retries: int = 2
    pause: float = 1.0


class Unavailable(Exception):
    """A file cannot be had; the text completes a sentence that starts with its source."""


class Missing(Unavailable):
    """The server answers that it has no such file."""


class SourceFailed(Unavailable):
    """The server cannot be reached or is too slow: its other files will do no better."""


class Cancelled(Exception):
    """The caller wanted no more of it."""


class WriteFailed(Exception):
    """The file cannot be written; raised from the OSError."""


class _Cut(Exception):
    """The connection was lost before the end."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from HTTPS to anything else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


_OPENER = urllib.request.build_opener(_NoDowngrade)


def _request(url: str, method: str = "GET", offset: int = 0) -> urllib.request.Request:
    headers = {"User-Agent": "kubepin-sandbox", **({"Range": f"bytes={offset}-"} if offset else {})}
    return urllib.request.Request(url, method=method, headers=headers)


def _words(error: Exception) -> str:
    """An error without the wrapping that urllib and the socket module give it."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "time-out"
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def probe(url: str, limits: Limits) -> str | None:
    """Say why a server cannot be reached; None when it gives any answer."""
    answers: list[str | None] = []

    def ask() -> None:
        try:
            _OPENER.open(_request(url, "HEAD"), timeout=limits.connect).close()
        except urllib.error.HTTPError as error:
            answers.append(f"it answers {error.code} {error.reason}" if error.code in BUSY else None)
        except (OSError, http.client.HTTPException) as error:
            answers.append(_words(error))
        else:
            answers.append(None)

    # The resolver knows no time limit; a thread left behind with it ends with the process.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * limits.connect)
    return answers[0] if answers else "time-out"


def _write(sink: BinaryIO, data: bytes) -> None:
    try:
        sink.write(data)
    except OSError as error:
        raise WriteFailed from error


def _open(url: str, offset: int, limits: Limits) -> http.client.HTTPResponse:
    """Ask for a file from an offset on."""
    try:
        response: http.client.HTTPResponse = _OPENER.open(_request(url, offset=offset), timeout=limits.silence)
    except urllib.error.HTTPError as error:
        if error.code in GONE:
            raise Missing(f"has no such file ({error.code})") from error
        if error.code in BUSY:
            raise _Cut(f"answers {error.code} {error.reason}") from error
        raise Unavailable(f"refuses it ({error.code} {error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise SourceFailed(f"sent nothing for {limits.silence:.0f} s") from error
        raise _Cut(f"breaks the connection ({_words(error)})") from error
    return response


def _resumed(response: http.client.HTTPResponse, offset: int) -> bool:
    """Whether the server goes on where the last connection ended."""
    return response.status == 206 and bool(
        re.match(rf"bytes {offset}-", response.headers.get("Content-Range", ""))  # else it starts anew
    )


def _receive(
    url: str, sink: BinaryIO, offset: int, limits: Limits, stopped: Callable[[], bool], progress: Progress
) -> None:
    """Read one answer to its end."""
    with _open(url, offset, limits) as response:
        if offset and not _resumed(response, offset):
            offset = sink.seek(0)
            sink.truncate()
        length = response.headers.get("Content-Length") or ""
        expected = offset + int(length) if length.isdecimal() else 0
        received = offset
        progress(received, expected)
        began, at_began = time.monotonic(), received
        while True:
            if stopped():
                raise Cancelled
            try:
                # read1 returns what has arrived, so that a trickle is noticed.
                data = response.read1(CHUNK)
            except TimeoutError as error:
                raise SourceFailed(f"sent nothing for {limits.silence:.0f} s") from error
            except (OSError, http.client.HTTPException) as error:
                raise _Cut(f"breaks the connection after {received} bytes ({_words(error)})") from error
            if not data:
                break
            _write(sink, data)
            received += len(data)
            progress(received, expected)
            elapsed = time.monotonic() - began
            if elapsed >= limits.window:
                speed = (received - at_began) / elapsed
                if speed < limits.bytes_per_second:
                    raise SourceFailed(f"is slow ({speed / 1000:.1f} kB/s over {elapsed:.0f} s)")
                began, at_began = time.monotonic(), received
        if expected and received != expected:
            raise _Cut(f"ends after {received} of {expected} bytes")


def fetch(url: str, sink: BinaryIO, limits: Limits, stopped: Callable[[], bool], progress: Progress) -> None:
    """Write a file's content to `sink`, from its start.

    Raises Missing, SourceFailed or Unavailable where it cannot be had, WriteFailed where the sink cannot take it,
    Cancelled once `stopped` holds.
    """
    for attempt in range(limits.retries + 1):
        try:
            _receive(url, sink, sink.tell() if attempt else 0, limits, stopped, progress)
            sink.flush()
        except _Cut as error:
            reason = str(error)
            time.sleep(limits.pause)
        except OSError as error:
            raise WriteFailed from error
        else:
            return
    raise Unavailable(f"{reason}, {limits.retries + 1} times")
