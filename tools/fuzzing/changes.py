"""Damage: bytes, and the structure of JSON, YAML, PNG, gzip and zip files."""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import yaml

Change = Callable[[Random, bytes], bytes]

_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 3, 1.5, 10**6, 10**9, 10**30, float("nan"), float("inf")),
    *("", "x", "\x00", "a" * 5000, "../../x", [], [0], [1, 2, 3], {}, {"a": 1}, [[]], [-1, -1]),
)


def bend(chance: Random, content: bytes) -> bytes:
    """One to six places changed, most often near one of the ends, where headers are."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            return bytes(chance.randbytes(9))
        _bend_once(chance, data)
    return bytes(data)


def _place(chance: Random, length: int) -> int:
    kind = chance.random()
    if kind < 0.5:
        return chance.randrange(min(length, 300))
    if kind < 0.7:
        return length - 1 - chance.randrange(min(length, 600))
    return chance.randrange(length)


def _bend_once(chance: Random, data: bytearray) -> None:
    at, length = _place(chance, len(data)), chance.choice((1, 4, 16, 200))
    match chance.randrange(7):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at] = chance.randrange(256)
        case 2:
            size = chance.choice("BHIQ")
            most = 2 ** (8 * struct.calcsize(size))
            number = chance.choice(_NUMBERS) % most
            packed = struct.pack(chance.choice("<>") + size, number)
            data[at : at + len(packed)] = packed
        case 3:
            del data[at:]
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
        case _:
            data[at : at + length] = chance.randbytes(length)


def bend_png(chance: Random, content: bytes) -> bytes:
    """Chunks changed, and their checksums made right: what comes behind the checksum is tried."""
    if chance.random() < 0.4:
        return bend(chance, content)
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        if chance.random() < 0.4:
            body = bend(chance, body)
        if kind == b"IDAT" and chance.random() < 0.3:
            body = zlib.compress(bend(chance, _unpacked(body)))
        out += struct.pack(">I", len(body)) + kind + body
        out += struct.pack(">I", zlib.crc32(kind + body))
        at += 12 + length
    return bytes(out)


def _unpacked(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return body


def bend_gzip(chance: Random, content: bytes) -> bytes:
    """Changed inside or outside."""
    if chance.random() < 0.4:
        return bend(chance, content)
    return gzip.compress(bend(chance, gzip.decompress(content)), mtime=0)


def bend_zip(chance: Random, content: bytes) -> bytes:
    """One member changed, by its structure if it is JSON; or the archive itself."""
    if chance.random() < 0.2:
        return bend(chance, content)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = chance.choice([name for name in names if name.endswith(".json")] * 3 + names)
        for name in names:
            body = old.read(name)
            if name == chosen:
                body = (bend_json if name.endswith(".json") else bend)(chance, body)
            new.writestr(name, body)
    return out.getvalue()


def bend_safetensors(chance: Random, content: bytes) -> bytes:
    """The header's values changed, with the right length before it; or bytes."""
    if chance.random() < 0.4:
        return bend(chance, content)
    (length,) = struct.unpack_from("<Q", content)
    header = bend_json(chance, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def bend_onnx(chance: Random, content: bytes) -> bytes:
    """A node, name, number, shape or tensor of the graph changed; or bytes."""
    from onnx import ModelProto

    if chance.random() < 0.3:
        return bend(chance, content)
    model = ModelProto()
    model.ParseFromString(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _bend_graph(chance, model)
    changed: bytes = model.SerializeToString()
    return changed


def _bend_graph(chance: Random, model: Any) -> None:
    graph = model.graph
    one, other = chance.choice(graph.node), chance.choice(graph.node)
    names = [name for each in graph.node for name in (*each.input, *each.output)]
    match chance.randrange(11):
        case 0 if one.input:
            one.input[chance.randrange(len(one.input))] = chance.choice((*names, "", "x" * 3000))
        case 1 if one.output:
            one.output[0] = chance.choice((*names, ""))
        case 2:
            one.op_type = chance.choice(
                (other.op_type, "LSTM", "Loop", "If", "", "Reshape", "Tile")
            )
        case 3:
            one.CopyFrom(other)
        case 4:
            del graph.node[chance.randrange(len(graph.node))]
        case 5 if one.attribute:
            attribute = chance.choice(one.attribute)
            attribute.i = chance.choice(_NUMBERS) * chance.choice((1, -1)) % 2**63
            attribute.ints[:] = [chance.choice(_NUMBERS) % 2**63 for _ in attribute.ints]
        case 6 if one.attribute:
            del one.attribute[chance.randrange(len(one.attribute))]
        case 7:
            tensor = chance.choice(graph.initializer)
            tensor.dims[:] = [chance.choice(_NUMBERS) % 2**63 for _ in tensor.dims]
        case 8:
            tensor = chance.choice(graph.initializer)
            tensor.raw_data = bend(chance, tensor.raw_data)
        case 9:
            tensor = chance.choice(graph.initializer)
            tensor.data_type = chance.randrange(26)
        case _:
            dims = graph.input[0].type.tensor_type.shape.dim
            for dim in dims:
                dim.dim_value = chance.choice(_NUMBERS) % 2**63


def bend_json(chance: Random, content: bytes) -> bytes:
    """Values replaced, removed or doubled, at any depth; or bytes."""
    if chance.random() < 0.25:
        return bend(chance, content)
    return json.dumps(_bend_tree(chance, json.loads(content))).encode()


def bend_yaml(chance: Random, content: bytes) -> bytes:
    """The same of YAML."""
    if chance.random() < 0.25:
        return bend(chance, content)
    return yaml.safe_dump(_bend_tree(chance, yaml.safe_load(content)), sort_keys=False).encode()


def _bend_tree(chance: Random, tree: Any) -> Any:
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return copy.deepcopy(chance.choice(_VALUES))
        holder, key = chance.choice(places)
        match chance.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder[key], str) and holder[key]:
                holder[key] = bend(chance, holder[key].encode())[:9999].decode("latin-1")
            case 2:
                other, where = chance.choice(places)
                holder[key] = copy.deepcopy(other[where])
            case 3 if type(holder[key]) is int:
                holder[key] = chance.choice(_NUMBERS) * chance.choice((1, -1))
            case _:
                holder[key] = copy.deepcopy(chance.choice(_VALUES))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = (
        list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    )
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])
