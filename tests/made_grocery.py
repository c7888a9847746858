"""A small set in the shape of the Grocery Store Dataset, and a server that has its archive."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Three classes, one of them without a coarse class above it and without a photo to validate on.
PHOTOS = {
    "train/Banana": 2,
    "train/Oat-Milk": 2,
    "train/Pink-Lady": 3,
    "validation/Banana": 0,
    "validation/Oat-Milk": 1,
    "validation/Pink-Lady": 1,
    "test/Banana": 1,
    "test/Oat-Milk": 2,
    "test/Pink-Lady": 1,
}
ABOVE = {"Banana": "Fruit", "Oat-Milk": "Packages/Milk", "Pink-Lady": "Fruit/Apple"}
FOLDERS = {"train": "train", "validation": "val", "test": "test"}
BYTES = 40_000


def made_photos() -> dict[str, bytes]:
    """The content of every photo by its path in the set; no real photo is needed to be copied and hashed."""
    paths = [f"{f}/{f.partition('/')[2]}_{n:03}.jpg" for f, count in PHOTOS.items() for n in range(1, count + 1)]
    return {path: hashlib.shake_256(path.encode()).digest(BYTES) for path in paths}


def made_list(file: Path) -> Path:
    """Write the list of the made set."""
    photos, lines = made_photos(), []
    for folder in PHOTOS:
        lines.append(folder)
        for path, content in photos.items():
            if path.startswith(f"{folder}/"):
                lines.append(f"{path[-7:-4]} {len(content)} {hashlib.sha256(content).hexdigest()}")
    file.write_text("\n".join(lines) + "\n")
    return file


def made_archive(file: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    """Write the archive as it is published, with iconic pictures beside the photos.

    Args:
        file: where it goes.
        changes: another content by path in the set; None leaves the photo out. Other names are added as they are.
    """
    photos = made_photos()
    changed: dict[str, bytes | None] = {**photos, **(changes or {})}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("GroceryStoreDataset-fc80ba9/LICENSE", "MIT License")
        archive.writestr("GroceryStoreDataset-fc80ba9/README.md", "about")
        icon = "dataset/iconic-images-and-descriptions/Fruit/Banana/Banana_Iconic.jpg"
        archive.writestr(f"GroceryStoreDataset-fc80ba9/{icon}", "an icon")
        for path, content in changed.items():
            if content is not None:
                archive.writestr(published_name(path) if path in photos else path, content)
    return file


def published_name(path: str) -> str:
    """Where the archive has a photo."""
    split, name, photo = path.split("/")
    return f"GroceryStoreDataset-fc80ba9/dataset/{FOLDERS[split]}/{ABOVE[name]}/{name}/{photo}"


@dataclass
class Site:
    """What the server has, and what it was asked.

    Attributes:
        content: of the one file.
        tag: its ETag; "" for none.
        ranges: whether a part can be asked for.
        honest: whether it looks at If-Range.
        breaks_at: bytes after which the connection breaks off; None for never.
        chunked: whether it tells no length.
        status: what it answers instead of the file.
        asked: the headers of every request.
        sent: bytes of content sent in all.
    """

    content: bytes
    tag: str = '"one"'
    ranges: bool = True
    honest: bool = True
    breaks_at: int | None = None
    chunked: bool = False
    status: int = 200
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site on this machine until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, site)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}/grocery.zip"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    site.asked.append(dict(handler.headers))
    handler.close_connection = True
    if site.status != 200:
        handler.send_error(site.status)
        return
    start = _start(handler, site)
    if start >= len(site.content):
        handler.send_error(416)
        return
    body = site.content[start:]
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
    if site.tag:
        handler.send_header("ETag", site.tag)
    handler.send_header(*(("Transfer-Encoding", "chunked") if site.chunked else ("Content-Length", str(len(body)))))
    handler.end_headers()
    sent = body if site.breaks_at is None else body[: max(0, site.breaks_at - start)]
    site.sent += len(sent)
    if site.chunked:
        handler.wfile.write(b"%x\r\n" % len(body) + sent + (b"\r\n0\r\n\r\n" if sent == body else b""))
    else:
        handler.wfile.write(sent)


def _start(handler: BaseHTTPRequestHandler, site: Site) -> int:
    asked = handler.headers.get("Range", "")
    same = not site.honest or handler.headers.get("If-Range", site.tag) == site.tag
    return int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges and same else 0
