"""Zarr at a URL: on a server, in a ZIP file, in memory; read with fsspec.

Only a URL from the user is followed. The content of a file is never used as an address: its arrays
are read below its own URL, and folders on servers are not listed.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eyeshot.errors import BadFile, BadValue, Failure
from eyeshot.extras import extra, is_installed, not_installed

with extra("remote"):
    import aiohttp
    import fsspec
with extra("images"):
    import zarr
    from zarr.storage import FsspecStore

_NEEDS = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs"}
_LOCAL = ("file", "memory", "zip")
_PROTOCOLS = (*_LOCAL, *_NEEDS)
_PATIENCE = aiohttp.ClientTimeout(total=120, sock_connect=20)
"""Seconds for one answer of a server."""
_OF_SERVERS = {"aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs"}
"""Packages whose exceptions mean that a request to a server failed."""


def _without_secrets(text: str) -> str:
    """URLs in a text without names, passwords and signatures."""
    return re.sub(r"\?[^\s'\"]*", "", re.sub(r"//[^/\s]*@", "//", text))


def _has_protocol(part: str) -> bool:
    """Whether a part of a chained URL names a protocol; for fsspec, a bare word does too."""
    bare = re.fullmatch("[a-z0-9]+", part) is not None or part in fsspec.available_protocols()
    return "://" in part or bare


class RemoteZarr:
    """A Zarr array or group at a URL."""

    def __init__(self, url: str) -> None:
        """Check the URL; nothing is read.

        Raises:
            BadValue: the protocol is not supported.
            BadFile: the ZIP file is missing or damaged.
            Failure: a package is not installed, or the server did not answer.
        """
        self._shown = _without_secrets(url)
        protocols = [part.partition("://")[0] for part in url.split("::") if _has_protocol(part)]
        for protocol in protocols:
            if protocol not in _PROTOCOLS:
                raise BadValue(
                    f"{self}: the protocol {protocol!r}",
                    cure=f"use {', '.join(_PROTOCOLS[:-1])} or {_PROTOCOLS[-1]}",
                )
            if protocol in _NEEDS and not is_installed(_NEEDS[protocol]):
                raise not_installed(_NEEDS[protocol], "remote")
        self._far = any(protocol in _NEEDS for protocol in protocols)
        patient = {"client_kwargs": {"timeout": _PATIENCE}}
        options: dict[str, Any] = {
            protocol: patient for protocol in protocols if protocol in ("http", "https")
        }
        if "::" not in url:  # options of a single protocol are passed without its name
            options = options.get(protocols[0], {}) if protocols else {}
        with self.asked():
            try:
                self._files, self._root = fsspec.url_to_fs(url, **options)
                self._store = FsspecStore.from_url(url, options, read_only=True)
            except FileNotFoundError as error:
                raise BadFile(f"{self}: no such file", cure="check the name") from error
            except (zipfile.BadZipFile, ValueError) as error:
                raise BadFile(f"{self}: {error}", cure="check the URL") from error

    def __str__(self) -> str:
        """The URL, without a password or a signature."""
        return self._shown

    def open(self) -> Any:
        """The array or the group.

        Raises:
            BadFile: there is none.
            Failure: the server did not answer.
        """
        with self.asked():
            try:
                return zarr.open(self._store, mode="r")
            except FileNotFoundError as error:
                raise BadFile(
                    f"{self}: no Zarr array or group is there",
                    cure="check the URL; other kinds of images are downloaded first",
                ) from error

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Inside the context, an error of the server becomes a Failure."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # each storage library has its own errors; others are raised
            package = type(error).__module__.partition(".")[0]
            if self._far and (isinstance(error, OSError) or package in _OF_SERVERS):
                reason = _without_secrets(f"{type(error).__name__}: {error}")
                raise Failure(
                    f"{self}: the server did not answer ({reason})",
                    cure="check the URL, the connection and your rights; --resume continues a run",
                ) from error
            raise

    def stamp(self) -> list[int]:
        """Empty: a resumed run compares the windows that were read instead."""
        return []

    def stored_bytes(self, key: str) -> int:
        """The number of bytes stored under a key; 0 if it is unknown."""
        with self.asked():
            try:
                return int(self._files.info(f"{self._root}/{key}").get("size") or 0)
            except FileNotFoundError:
                return 0

    def identity(self, array: zarr.Array[Any]) -> dict[str, Any]:
        """The URL, and a digest of the array's metadata."""
        metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
        return {"url": str(self), "metadata": hashlib.sha256(metadata.encode()).hexdigest()[:32]}
