#!/usr/bin/env python3
"""Reads the test vectors of docs/wire-format.md, written from that page and nothing else.

    python3 tests/wire/read_messages.py docs/wire-format.md

Plain Python: each f32 operation is computed in f64 and rounded, which gives f32's own result for +, -, *, / and square roots.
"""

import math
import re
import struct
import sys
import zlib

SCHEMA = [  # name, shape, role: 0 matrix, 1 vector, 2 statistic
    ("bn.running_mean", [2], 2),
    ("bn.running_var", [2], 2),
    ("conv.bias", [2], 1),
    ("conv.weight", [2, 2, 2, 3], 0),
    ("fc.weight", [1, 64], 0),
]
MASK = (1 << 64) - 1


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def digest(schema):
    h = 0xCBF29CE484222325
    for name, shape, _ in schema:
        data = name.encode() + b"\0" + b"".join(struct.pack("<I", d) for d in shape) + b"\xff"
        for byte in data:
            h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def level(bits, data, i):
    if bits == 16:
        return struct.unpack_from("<h", data, 2 * i)[0]
    if bits == 8:
        return struct.unpack_from("<b", data, i)[0]
    per = 8 // bits
    code = data[i // per] >> (bits * (i % per)) & ((1 << bits) - 1)
    return code - 8 if bits == 4 else 2 * code - (3 if bits == 2 else 1)


def blocks(n):
    while n > 0:
        b = n if n < 64 else min(4096, 1 << (n.bit_length() - 1))
        yield b
        n -= b


def sign_word(seed, w):
    z = (seed + (w + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def transform(x):
    step = 1
    while step < len(x):
        for start in range(0, len(x), 2 * step):
            for i in range(start, start + step):
                a, b = x[i], x[i + step]
                x[i], x[i + step] = f32(a + b), f32(a - b)
        step *= 2
    factor = f32(1.0 / f32(math.sqrt(len(x))))
    return [f32(v * factor) for v in x]


def segments(bits, data, lengths):
    scales = struct.unpack_from(f"<{len(lengths)}f", data)
    codes = data[4 * len(lengths):]
    assert len(codes) == (sum(lengths) * bits + 7) // 8, "codes have the wrong length"
    i = 0
    for scale, n in zip(scales, lengths):
        yield [f32(level(bits, codes, i + j) * scale) for j in range(n)]
        i += n


def rotated(bits, data, n):
    (seed,) = struct.unpack_from("<Q", data)
    out = []
    for x in segments(bits, data[8:], list(blocks(n))):
        if len(x) >= 64:
            x = transform(x)
            x = [-v if sign_word(seed, (len(out) + j) // 64) >> (len(out) + j) % 64 & 1 else v for j, v in enumerate(x)]
        out += x
    return out


def ternary(data, n):
    count, magnitude, k = struct.unpack_from("<IfB", data)
    bits = [byte >> i & 1 for byte in data[9:] for i in range(8)]
    out, at, nxt = [0.0] * n, 0, 0
    for _ in range(count):
        q = 0
        while bits[at]:
            q, at = q + 1, at + 1
        at += 1
        r = sum(bits[at + i] << i for i in range(k))
        at += k
        nxt += (q << k) + r
        out[nxt] = -magnitude if bits[at] else magnitude
        nxt, at = nxt + 1, at + 1
    assert len(bits) - at < 8 and not any(bits[at:]), "bits are left over"
    return out


def read(message):
    schema = sorted(SCHEMA, key=lambda t: (t[2], t[0]))
    magic, version, kind, entries, digested = struct.unpack_from("<4sBBHQ", message)
    (length,) = struct.unpack_from("<I", message, 32)
    assert (magic, version) == (b"LBFM", 1) and digested == digest(schema)
    assert len(message) == 48 + length + 4
    assert zlib.crc32(message[:-4]) == struct.unpack("<I", message[-4:])[0]
    if kind == 0:
        return struct.unpack_from("<Q", message, 48)
    at, tensor, values = 48, 0, []
    for _ in range(entries):
        codec, bits, tensors, size = struct.unpack_from("<BBHI", message, at)
        body = message[at + 8: at + 8 + size]
        at += 8 + size
        covered = schema[tensor: tensor + tensors]
        tensor += tensors
        rows = []
        for _, shape, role in covered:
            count = shape[0] if role == 0 else 1
            rows += [math.prod(shape) // count] * count
        n = sum(rows)
        if codec == 0:
            values += struct.unpack(f"<{n}f", body)
        elif codec == 1:
            values += [v for segment in segments(bits, body, rows) for v in segment]
        elif codec == 2:
            values += rotated(bits, body, n)
        elif codec == 3:
            values += ternary(body, n)
        elif codec == 4:
            values += [struct.unpack("<f", b"\0\0" + body[2 * i: 2 * i + 2])[0] for i in range(n)]
        else:
            raise AssertionError(f"codec {codec}")
    assert tensor == len(schema) and at == len(message) - 4
    return values


def main(path):
    text = open(path, encoding="utf-8").read()
    vectors = re.findall(r"```text\nvector (.*)\n((?:[0-9a-f]+\n)+)values ([0-9a-f]{8})\nfirst (.*)\n```", text)
    assert len(vectors) >= 7, f"{len(vectors)} vectors"
    for name, lines, expected, first in vectors:
        values = read(bytes.fromhex(lines))
        if isinstance(values, tuple):
            assert f"seed {values[0]}" == first, (name, values)
            continue
        found = zlib.crc32(b"".join(struct.pack("<f", v) for v in values))
        assert f"{found:08x}" == expected, f"{name}: {found:08x}, the page says {expected}"
        assert [f32(float(x)) for x in first.split()] == list(values[:4]), (name, values[:4])
    print(f"{len(vectors)} messages read as the page says")


main(sys.argv[1] if len(sys.argv) > 1 else "docs/wire-format.md")
