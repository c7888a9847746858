"""A download that is gone on with where it broke off."""

import contextlib
import json
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lfvit_cli.errors import ImagesError
from lfvit_cli.files import write_text
from lfvit_cli.records import Progress

CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without an answer
MEGABYTE = 10**6


def download(url: str, file: Path, report: Progress, about: int) -> None:
    """Fetch a file. What an earlier try has left beside it is kept, where the server still has the same file.

    While it lasts, ``FILE.part`` holds what is there, and ``FILE.json`` of which file on the server it is a part.

    Args:
        url: an http or https address.
        file: where it goes, in an existing folder; it appears when it is whole.
        report: told the megabytes fetched.
        about: how many bytes to expect where the server does not say.

    Raises:
        ImagesError: the address is none, the server is out of reach or refuses, or the connection broke off.
        OSError: the file cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ImagesError(f"{url!r} is no web address", "It begins with https://.")
    part, origin = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.json")
    tag = _tag_of_part(origin, url)
    have = part.stat().st_size if tag is not None and part.exists() else 0
    with _open(url, have, tag or "") as response:
        start = have if response.status == 206 else 0
        if not start:
            # The old part goes first: it must never stand beside the tag of another file.
            part.unlink(missing_ok=True)
            write_text(origin, json.dumps({"url": url, "etag": response.headers.get("ETag", "")}))
        whole = None if response.length is None else start + response.length
        with part.open("ab") as stream:
            done = _copy(response, stream, start, whole or max(about, start + 1), report)
    if whole is not None and done < whole:
        raise _broken_off(url, f"after {done / MEGABYTE:.1f} of {whole / MEGABYTE:.1f} MB")
    report(max(1, done // MEGABYTE), max(1, done // MEGABYTE), "MB fetched")
    part.replace(file)
    origin.unlink()


def _tag_of_part(origin: Path, url: str) -> str | None:
    """The ETag of the file of which a part is there, "" where the server gave none; None where no part can be used."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        noted = json.loads(origin.read_text("utf-8"))
        if noted["url"] == url:
            return str(noted["etag"])
    return None


def _open(url: str, have: int, tag: str) -> HTTPResponse:
    """Ask for the file, from byte ``have`` on: status 206 says that the answer begins there, 200 at the beginning."""
    if have:
        headers = {"Range": f"bytes={have}-"}
        if tag and not tag.startswith("W/"):
            headers["If-Range"] = tag  # only a strong tag may ask so
        try:
            response = _request(url, headers)
        except _RangeRefused:
            pass
        else:
            if response.status != 206 or (
                response.headers.get("ETag", "") == tag
                and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            ):
                return response
            response.close()
    return _request(url, {})


class _RangeRefused(Exception):
    """The server has no such bytes: the part is of another file, or whole."""


def _request(url: str, headers: dict[str, str]) -> HTTPResponse:
    request = Request(url, headers={"User-Agent": "lfvit", **headers})  # noqa: S310 - download() has seen to the scheme
    try:
        return cast(HTTPResponse, urlopen(request, timeout=TIMEOUT))  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code == 416 and "Range" in headers:
            raise _RangeRefused from error
        raise ImagesError(
            f"{url} answers {error.code} {error.reason}", "Check the address, or name a copy that you have with --from."
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ImagesError(
            f"{urlsplit(url).netloc} cannot be reached: {getattr(reason, 'strerror', None) or reason}",
            "Check the network, or name a copy that you have with --from.",
        ) from error


def _copy(response: HTTPResponse, stream: IO[bytes], done: int, expected: int, report: Progress) -> int:
    """Copy what comes, and return how many bytes are then there."""
    told = -1
    for chunk in _chunks(response):
        stream.write(chunk)
        done += len(chunk)
        if done // MEGABYTE > told and done < expected:
            told = done // MEGABYTE
            report(told, max(expected // MEGABYTE, told + 1), "MB fetched")
    return done


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """What the connection gives; kept apart from the writing, whose errors are the disk's."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, HTTPException) as error:
            raise _broken_off(response.url, f"({type(error).__name__})") from error
        if not chunk:
            return
        yield chunk


def _broken_off(url: str, where: str) -> ImagesError:
    return ImagesError(
        f"the connection to {urlsplit(url).netloc} broke off {where}",
        "Run the same command again: it goes on from there, where the server can.",
    )
