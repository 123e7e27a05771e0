#!/usr/bin/env python3
"""An independent decoder for the stored format of Message Vault, version 1.

It was written from docs/storage-format.md alone, to show that the document suffices; it shares nothing with the
project's own code. Python 3 and its standard library are all it needs, and for Zstandard before Python 3.14 the tool
`zstd`.

    python3 decode.py [--summary] [--stream-id ID] CONTAINER

CONTAINER is a stream's container directory of the file backend: it holds `<stream id>/<base offset>.log`. All segments
are walked from the first, batch by batch, and each batch is checked against the document: header, checksums, records,
snapshot, chain. Every message is printed as one line of JSON: offset, timestamp (ms), id (hex), key and value (base64),
headers (object), attributes (the byte as stored, bit 0 included). With --summary, one JSON object tells what was there.

Exit code 0: a clean end. 1: damage that is proven; one sentence on stderr says where. 2: a wrong call, or a directory
that cannot be read. 3: a later version of the format wrote here. What stands before is printed in each case.

What files alone do not tell is not checked: the blob's sequence number (every fence counts as evidence), the metadata
`begun`, and the metadata `stream_id` (where several ids have segments, --stream-id has to choose).
"""

import argparse
import base64
import json
import os
import re
import struct
import subprocess
import sys
from array import array

PAGE, BLOCK, MAX_SEGMENT = 512, 4 << 20, 1 << 40
MAX_48 = (1 << 48) - 1
# The sequence number of a segment that nobody has claimed yet, above every term.
UNUSED = (1 << 53) - 1
CODECS = (0, 1, 2)  # none, lz4, zstd
KINDS = {1: "messages", 2: "snapshot", 3: "filler", 4: "seal", 5: "commit"}
HEADER = struct.Struct("<4sBBB9s16sQIIIIQQQQQ24sII")
FIELDS = (
    "magic version kind codec reserved1 stream_id position total_length payload_length uncompressed_length "
    "record_count base_offset first_timestamp last_timestamp fence committed reserved2 payload_crc header_crc"
).split()
assert HEADER.size == 128


class Damage(Exception):
    """Damage that is proven, or a writer's mistake."""


class TooNew(Exception):
    """A later version of the format wrote here."""


class Broken(Exception):
    """A payload breaks a rule."""


# ---- CRC-32C ----


def _tables():
    """T[k][b]: what the 16-bit word b adds to the checksum when 2 * k bytes follow it."""
    byte = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        byte.append(crc)
    word = []
    for crc in range(65536):
        crc = crc >> 8 ^ byte[crc & 255]
        word.append(crc >> 8 ^ byte[crc & 255])
    tables = [word]
    for _ in range(3):
        tables.append([crc >> 16 ^ word[crc & 0xFFFF] for crc in tables[-1]])
    return byte, [array("I", table) for table in tables]  # denser than lists, so three times as fast


def _pure_crc32c(data, _cache=[]):
    """Eight bytes a step; some 15 MB/s."""
    if not _cache:
        _cache.append(_tables())
    byte, (t0, t1, t2, t3) = _cache[0]
    crc, whole = 0xFFFFFFFF, len(data) // 8
    for word in struct.unpack_from("<%dQ" % whole, data):
        word ^= crc
        crc = t3[word & 0xFFFF] ^ t2[word >> 16 & 0xFFFF] ^ t1[word >> 32 & 0xFFFF] ^ t0[word >> 48]
    for b in data[whole * 8 :]:
        crc = crc >> 8 ^ byte[(crc ^ b) & 255]
    return crc ^ 0xFFFFFFFF


try:
    from crc32c import crc32c
except ImportError:
    try:
        from google_crc32c import value as crc32c
    except ImportError:
        crc32c = _pure_crc32c


# ---- batch ----


def decode_header(data):
    """Steps 1 to 3 of the document: (verdict, header); a verdict of None is a valid header."""
    if len(data) < 128 or data[:4] != b"MVLB":
        return "absent", None
    if struct.unpack_from("<I", data, 124)[0] != crc32c(data[:124]):
        return "absent", None
    h = dict(zip(FIELDS, HEADER.unpack_from(data)))
    if h["version"] != 1 or h["codec"] not in CODECS or h["kind"] not in KINDS:
        return "format_too_new", h
    kind, position, total, payload = KINDS[h["kind"]], h["position"], h["total_length"], h["payload_length"]
    to_block_end = BLOCK - position % BLOCK
    padded = (128 + payload + PAGE - 1) // PAGE * PAGE
    valid = (
        not any(h["reserved1"] + h["reserved2"])
        and position % PAGE == 0
        and position < MAX_SEGMENT
        and h["committed"] <= position
        and total % PAGE == 0
        and 0 < total <= to_block_end
        and (kind == "snapshot") == (position % BLOCK == 0)
        and h["uncompressed_length"] <= BLOCK
        and (h["uncompressed_length"] == payload if h["codec"] == 0 else h["uncompressed_length"] > payload)
        and (h["codec"] == 0 or kind == "messages")
        and (kind == "messages") == (h["record_count"] > 0)
        and h["base_offset"] + h["record_count"] <= MAX_48
        and h["first_timestamp"] <= h["last_timestamp"] <= MAX_48
        and h["fence"] < UNUSED
        and (kind == "messages" or h["first_timestamp"] == h["last_timestamp"])
        and (payload > 0) == (kind in ("messages", "snapshot"))
        and total == {"filler": to_block_end, "seal": PAGE, "commit": PAGE}.get(kind, padded)
        and (kind != "snapshot" or total <= 276480)
    )
    return (None if valid else "malformed"), h


def decode_batch(read, at=0):
    """All five steps: (verdict, header, payload). `read(position, length)` gives the bytes there, fewer at the end."""
    verdict, h = decode_header(read(at, 128))
    if verdict:
        return verdict, h, b""
    payload = read(at + 128, h["payload_length"])
    if len(payload) < h["payload_length"]:
        return "cut off", h, payload
    return ("intact" if crc32c(payload) == h["payload_crc"] else "damaged"), h, payload


# ---- codecs ----


def lz4_block(data, length):
    """What one LZ4 block holds, exactly `length` bytes."""
    out, at = bytearray(), 0

    def more(value):
        nonlocal at
        while True:
            byte, at = data[at], at + 1
            value += byte
            if byte < 255:
                return value

    try:
        while True:
            token, at = data[at], at + 1
            literals = token >> 4
            if literals == 15:
                literals = more(15)
            if at + literals > len(data):
                raise Broken("LZ4 literals run over the payload")
            out += data[at : at + literals]
            at += literals
            if at == len(data):
                break
            back, at = data[at] | data[at + 1] << 8, at + 2
            match = token & 15
            if match == 15:
                match = more(15)
            match += 4
            if not 0 < back <= len(out) or len(out) + match > length:
                raise Broken("an LZ4 match leads out of the records")
            piece = bytes(out[-back : len(out) - back + match] if back > match else out[-back:])
            out += (piece * (match // len(piece) + 1))[:match]
    except IndexError:
        raise Broken("an LZ4 block is cut off") from None
    return bytes(out)


def _zstd_tool(data):
    """The tool `zstd`, where Python is older than 3.14 and has no module for it."""
    try:
        done = subprocess.run(["zstd", "--decompress", "--stdout"], input=data, capture_output=True)
    except FileNotFoundError:
        sys.exit("this Python is older than 3.14, and the tool zstd is missing: on Debian, apt-get install zstd")
    if done.returncode:
        raise Broken("the payload is not a Zstandard frame")
    return done.stdout


def zstd_frame(data):
    try:
        from compression import zstd
    except ImportError:
        return _zstd_tool(data)
    try:
        return zstd.decompress(data)
    except zstd.ZstdError:
        raise Broken("the payload is not a Zstandard frame") from None


def uncompress(h, payload):
    """The payload as it was before it was compressed."""
    length = h["uncompressed_length"]
    out = {0: lambda: payload, 1: lambda: lz4_block(payload, length), 2: lambda: zstd_frame(payload)}[h["codec"]]()
    if len(out) != length:
        raise Broken("the payload decompresses to another length")
    return out


# ---- payloads ----


class Cursor:
    def __init__(self, data, at=0, end=None):
        self.data, self.at, self.end = data, at, len(data) if end is None else end

    def take(self, length):
        if length > self.end - self.at:
            raise Broken("a field runs over its end")
        self.at += length
        return self.data[self.at - length : self.at]

    def varint(self, low=0, high=2**64 - 1, what="a number"):
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            if shift == 63 and byte != 1 or shift and byte == 0:
                raise Broken("a varint is too long or not the shortest")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if not low <= value <= high:
            raise Broken("%s is out of its limits" % what)
        return value

    def bytes(self, low, high, what):
        return self.take(self.varint(low, high, what))

    def done(self, what):
        if self.at != self.end:
            raise Broken("%s does not end where it should" % what)


def decode_record(c, span, remaining):
    """One record: (attributes, delta, key, headers, value). `remaining` counts this record and those behind it."""
    length = c.varint()
    r = Cursor(c.data, c.at, c.at + length)
    c.take(length)
    (attributes,) = r.take(1)
    delta = r.varint(0, span, "a timestamp delta")
    if attributes & 1:
        r.bytes(1, 64, "a producer id")
        r.varint()
        r.varint()
        r.varint(1, remaining, "a stamp's record count")
    key = r.bytes(0, 1024, "a key")
    headers, size = {}, 0
    for _ in range(r.varint(0, 64, "the count of headers")):
        name, value = r.bytes(1, 256, "a header's name"), r.bytes(0, 16384, "a header's value")
        size += len(name) + len(value)
        try:
            name, value = name.decode("utf-8"), value.decode("utf-8")
        except UnicodeDecodeError:
            raise Broken("a header is not UTF-8") from None
        if name in headers or size > 16384:
            raise Broken("two headers have one name, or the headers are too long")
        headers[name] = value
    value = r.bytes(0, 2 << 20, "a value")
    r.done("a record")
    return attributes, delta, key, headers, value


def decode_records(h, payload):
    c, count = Cursor(payload), h["record_count"]
    for i in range(count):
        yield decode_record(c, h["last_timestamp"] - h["first_timestamp"], count - i)
    c.done("the payload")


def decode_snapshot(payload):
    c, producers = Cursor(payload), []
    for _ in range(c.varint(0, 1000, "the number of producers")):
        name, epoch, outcomes = c.bytes(1, 64, "a producer id"), c.varint(), []
        for _ in range(c.varint(1, 5, "the number of outcomes")):
            sequence, first = c.varint(), c.varint()
            count = c.varint(1, 2**32 - 1, "a message count")
            if first + count > MAX_48:
                raise Broken("an outcome's offsets are out of their limits")
            outcomes.append((sequence, first, count, c.varint(0, MAX_48, "a timestamp")))
        producers.append((name, epoch, outcomes))
    c.done("the snapshot")
    return producers


# ---- segment ----


class Segment:
    def __init__(self, directory, base):
        self.base, self.name = base, "%020d.log" % base
        self.file = open(os.path.join(directory, self.name), "rb", buffering=0)
        stat = os.fstat(self.file.fileno())
        self.length = stat.st_size
        self.sparse = hasattr(os, "SEEK_DATA") and getattr(stat, "st_blocks", 1 << 60) * 512 < self.length

    def read(self, at, length):
        self.file.seek(at)
        parts = []
        while length > 0 and (part := self.file.read(length)):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def written(self, start):
        """The first place from `start` on, whole pages, that is not zero, or None. Holes are not read. Where the file
        has none, only the first page of every block is read: every block that is written begins with a batch."""
        at = start
        while at < self.length:
            if self.sparse:
                try:
                    at = os.lseek(self.file.fileno(), at, os.SEEK_DATA)
                except OSError:  # nothing but a hole from here on
                    return None
                at = max(start, at // PAGE * PAGE)
                end = os.lseek(self.file.fileno(), at, os.SEEK_HOLE)
                step = min(1 << 20, max(PAGE, end - at))
                data = self.read(at, step)
            else:
                at = -(-at // BLOCK) * BLOCK
                step, data = BLOCK, self.read(at, PAGE)
            if any(data):
                first = next(i for i, b in enumerate(data) if b)
                return (at + first) // PAGE * PAGE
            at += step
        return None

    def check_tail(self, stream_id, p, why):
        """Raises Damage if the segment proves that its log does not end at `p`."""

        window_end = (p // BLOCK + 4) * BLOCK
        data = self.read(p, min(window_end, self.length) - p)
        i = data.find(b"MVLB")
        while i >= 0:
            verdict, h = decode_header(data[i : i + 128]) if i % PAGE == 0 else ("absent", None)
            # A valid header counts in its own place only.
            if not verdict and (h["stream_id"], h["position"]) == (stream_id, p + i) and h["committed"] > p:
                raise Damage(
                    "%s, position %d: %s, but the batch at %d says that everything before %d is final"
                    % (self.name, p, why, p + i, h["committed"])
                )
            i = data.find(b"MVLB", i + 1)
        at = self.written(window_end)
        if at is not None:
            raise Damage("%s, position %d: %s, but the page at %d is written" % (self.name, p, why, at))


def chain_break(state, h):
    """The chain rule that the batch breaks, or None."""
    if h["stream_id"] != state["stream_id"]:
        return "a batch of another stream"
    if h["position"] != state["position"]:
        return "a batch of another position"
    if h["base_offset"] != state["next_offset"]:
        return "a batch of another base offset"
    if h["fence"] < state["fence"]:
        return "a batch of an earlier term"
    if h["first_timestamp"] < state["last_timestamp"]:
        return "a batch of an earlier time"
    return None


# ---- stream ----


class Stream:
    def __init__(self, directory, on_message):
        self.directory, self.on_message = directory, on_message
        self.stream_id = bytes.fromhex(os.path.basename(directory))
        self.bases = segment_bases(directory)
        self.batches = dict.fromkeys(KINDS.values(), 0)
        self.state = {"stream_id": self.stream_id, "position": 0, "last_timestamp": 0, "fence": 0}
        self.state["next_offset"] = self.bases[0]
        self.tail = None

    def summary(self):
        return {
            "stream_id": self.stream_id.hex(),
            "batches": self.batches,
            "first_offset": self.bases[0],
            "next_offset": self.state["next_offset"],
            "tail_segment": "%020d.log" % self.tail,
            "tail_position": self.state["position"],
        }

    def walk(self):
        base = self.bases[0]
        while True:
            self.tail = base
            sealed = self.walk_segment(Segment(self.directory, base))
            following = self.state["next_offset"]
            if not sealed or following not in self.bases:
                break
            if following == base:
                raise Damage("%020d.log: its seal names the segment itself" % base)
            base, self.state["position"] = following, 0
        for later in self.bases:
            if later > base and (at := Segment(self.directory, later).written(0)) is not None:
                what = "its seal names the missing segment %020d.log" % following if sealed else "it has no seal"
                raise Damage("%020d.log: %s, but %020d.log is written at %d" % (base, what, later, at))

    def walk_segment(self, segment):
        """Walks to the seal (True) or to the tail (False)."""
        if segment.length % BLOCK or not BLOCK <= segment.length <= MAX_SEGMENT:
            raise Damage("%s: a segment cannot have a length of %d" % (segment.name, segment.length))
        state = self.state
        while True:
            p = state["position"]
            verdict, h, payload = decode_batch(segment.read, p)
            if verdict == "format_too_new":
                raise TooNew("%s, position %d: a later version of the format wrote here" % (segment.name, p))
            why = "no readable batch (%s)" % verdict if verdict != "intact" else chain_break(state, h)
            if why:
                segment.check_tail(self.stream_id, p, why)
                return False
            kind = KINDS[h["kind"]]
            state["position"] = p + h["total_length"]
            state["next_offset"] = h["base_offset"] + h["record_count"]
            state["last_timestamp"] = h["last_timestamp"]
            state["fence"] = h["fence"]
            self.batches[kind] += 1
            try:
                if kind == "snapshot":
                    decode_snapshot(payload)
                elif kind == "messages":
                    for i, record in enumerate(decode_records(h, uncompress(h, payload))):
                        self.on_message(message(h, i, *record))
            except Broken as e:
                raise Damage("%s, position %d: the %s batch is broken: %s" % (segment.name, p, kind, e)) from None
            if kind == "seal":
                return True


def message(h, i, attributes, delta, key, headers, value):
    offset, timestamp = h["base_offset"] + i, h["first_timestamp"] + delta
    return {
        "offset": offset,
        "timestamp": timestamp,
        "id": (timestamp.to_bytes(6, "big") + offset.to_bytes(6, "big") + h["stream_id"][:4]).hex(),
        "key": base64.b64encode(key).decode(),
        "value": base64.b64encode(value).decode(),
        "headers": headers,
        "attributes": attributes,
    }


def segment_bases(directory):
    names = (re.fullmatch(r"([0-9]{20})\.log", name) for name in os.listdir(directory))
    return sorted(base for base in (int(m[1]) for m in names if m) if base <= MAX_48)


def find_stream(container, wanted):
    """The directory `<stream id>` that has segments, or None for an empty stream."""
    ids = [wanted] if wanted else sorted(n for n in os.listdir(container) if re.fullmatch("[0-9a-f]{32}", n))
    directories = [os.path.join(container, i) for i in ids]
    found = [d for d in directories if os.path.isdir(d) and segment_bases(d)]
    if len(found) > 1:
        raise LookupError("several streams have segments here, choose one with --stream-id: " + " ".join(ids))
    return found[0] if found else None


def main():
    parser = argparse.ArgumentParser(description="Decodes a stream of Message Vault from its files.")
    parser.add_argument("--summary", action="store_true", help="one JSON object instead of the messages")
    parser.add_argument("--stream-id", help="the stream's id, 32 hexadecimal digits, where there are several")
    parser.add_argument("container", help="the stream's container directory")
    args = parser.parse_args()
    if args.stream_id and not re.fullmatch("[0-9a-f]{32}", args.stream_id):
        parser.error("a stream id has 32 hexadecimal digits in lower case")

    def show(value):
        sys.stdout.write(json.dumps(value) + "\n")

    code, stream = 0, None
    try:
        directory = find_stream(args.container, args.stream_id)
        if directory:
            stream = Stream(directory, (lambda m: None) if args.summary else show)
            stream.walk()
    except (Damage, TooNew) as e:
        print(e, file=sys.stderr)
        code = 1 if isinstance(e, Damage) else 3
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    except (OSError, LookupError) as e:
        print(e, file=sys.stderr)
        return 2
    if args.summary:
        empty = {"stream_id": None, "batches": dict.fromkeys(KINDS.values(), 0), "first_offset": 0, "next_offset": 0}
        show(stream.summary() if stream else {**empty, "tail_segment": None, "tail_position": 0})
    return code


if __name__ == "__main__":
    sys.exit(main())
