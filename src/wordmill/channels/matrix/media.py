"""Files of Matrix: fetched with a limit that holds while they come, decrypted, sent encrypted."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from nio import AsyncClient, EncryptionError
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from wordmill.channels.matrix.calls import ask, asking, part, refused
from wordmill.channels.rooms.base import Attached
from wordmill.errors import ChannelError, ChannelRefused, InvalidInput

PATIENCE: Final = 120.0
"""Seconds in which a file must have come."""
_PIECE: Final = 65_536

KINDS: Final = ("m.image", "m.file", "m.audio", "m.video")


def attached(content: Mapping[str, Any]) -> Attached | None:
    """The file of a message's content, if it has one that can be fetched."""
    if content.get("msgtype") not in KINDS:
        return None
    sealed = content.get("file")
    url = sealed.get("url") if isinstance(sealed, Mapping) else content.get("url")
    if not isinstance(url, str) or not url.startswith("mxc://"):
        return None
    raw = content.get("info")
    info: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    size, kind = info.get("size"), info.get("mimetype")
    reference: dict[str, Any] = {"url": url}
    if isinstance(sealed, Mapping):
        reference["file"] = dict(sealed)
    name = content.get("filename") or content.get("body")
    return Attached(
        name=name[:300] if isinstance(name, str) and name.strip() else "file",
        size=size if isinstance(size, int) and size > 0 else 0,
        media_type=kind if isinstance(kind, str) else "",
        reference=reference,
    )


async def fetch(client: AsyncClient, file: Attached, most: int) -> bytes:
    """The bytes of a file, decrypted. Raises InvalidInput for more than `most`, ChannelError."""
    where = urlsplit(str(file.reference["url"]))
    path = f"/_matrix/client/v1/media/download/{part(where.netloc)}/{part(where.path.strip('/'))}"
    headers = {"Authorization": f"Bearer {client.access_token}"}
    with asking():
        async with asyncio.timeout(PATIENCE):
            response = await client.send("GET", path, None, headers, timeout=PATIENCE)
            try:
                if response.status == 404:
                    raise ChannelRefused(f"The homeserver has no file {file.name!r}.")
                if response.status != 200:
                    raise ChannelError(f"The homeserver answered {response.status}.")
                data = await _read(response.content, file.name, most)
            finally:
                response.close()
    return _opened(file, data)


async def _read(content: Any, name: str, most: int) -> bytes:
    """All of it, unless it is more than `most`."""
    pieces, size = [], 0
    async for piece in content.iter_chunked(_PIECE):
        size += len(piece)
        if size > most:
            raise InvalidInput(
                f"{name!r} is too large: more than {most / 2**20:,.1f} MiB, which is the most."
            )
        pieces.append(piece)
    return b"".join(pieces)


def _opened(file: Attached, data: bytes) -> bytes:
    sealed = file.reference.get("file")
    if sealed is None:
        return data
    try:
        opened: bytes = decrypt_attachment(
            data, sealed["key"]["k"], sealed["hashes"]["sha256"], sealed["iv"]
        )
    except (EncryptionError, KeyError, TypeError, ValueError) as error:
        raise ChannelRefused(f"The file {file.name!r} cannot be decrypted.") from error
    return opened


async def most_upload(client: AsyncClient) -> int | None:
    """Bytes of the largest file that the homeserver takes; None where it does not say."""
    status, found = await ask(client, "GET", "/_matrix/client/v1/media/config")
    size = found.get("m.upload.size")
    return size if status == 200 and isinstance(size, int) else None


async def upload(
    client: AsyncClient, name: str, media_type: str, data: bytes, *, encrypted: bool
) -> dict[str, Any]:
    """Give the homeserver a file; the content of the message that shows it. Raises ChannelError."""
    sealed: dict[str, Any] | None = None
    sent = data
    if encrypted:
        sent, sealed = encrypt_attachment(data)
    headers = {
        "Authorization": f"Bearer {client.access_token}",
        "Content-Type": "application/octet-stream" if encrypted else media_type,
    }
    path = "/_matrix/media/v3/upload" + ("" if encrypted else f"?filename={part(name)}")
    with asking():
        async with asyncio.timeout(PATIENCE):
            response = await client.send("POST", path, sent, headers, timeout=PATIENCE)
            try:
                found = await response.json(content_type=None)
            except ValueError as error:  # the page of a proxy before it
                raise ChannelError(
                    f"The homeserver answered {response.status} without JSON."
                ) from error
    if response.status != 200 or not isinstance(found, dict) or "content_uri" not in found:
        raise refused(response.status, found if isinstance(found, dict) else {})
    kind = "m.image" if media_type.startswith("image/") else "m.file"
    content: dict[str, Any] = {
        "msgtype": kind, "body": name, "filename": name,
        "info": {"mimetype": media_type, "size": len(data)},
    }  # fmt: skip
    if sealed is None:
        return {**content, "url": found["content_uri"]}
    return {**content, "file": {**sealed, "url": found["content_uri"], "v": "v2"}}
