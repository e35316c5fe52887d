"""Verifies an export of the audit log with nothing but Python: `python3 verify_audit.py FILE [PUBLIC KEY]...`

Written from the description in actors/durable/src/audit/export.rs and RFC 8032, and shares no code with the program.
"""

import hashlib
import json
import sys

# Ed25519, as in RFC 8032: points of the curve in extended coordinates.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    u, v = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = v - u, d - c, d + c, v + u
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number, point):
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, point)
        point, number = add(point, point), number >> 1
    return result


def point(encoded):
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(public, text, signature):
    r, s = point(signature[:32]), int.from_bytes(signature[32:], "little")
    digest = hashlib.sha512(signature[:32] + public + text).digest()
    right = add(r, multiply(int.from_bytes(digest, "little") % L, point(public)))
    left = multiply(s, BASE)
    same = all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))
    return len(signature) == 64 and s < L and same


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check(begin, pinned, key, said, signature):
    public = begin["keys"][key]
    assert not pinned or public in pinned, f"it is signed by {public}, which is not known"
    assert is_signed(bytes.fromhex(public), canonical(said), bytes.fromhex(signature)), "a signature is wrong"


def verify(lines, pinned):
    first = next(lines)
    file, begin = hashlib.sha256(first), json.loads(first)["export"]
    number, known, signed = begin["first"] - 1, bytes.fromhex(begin["before"]), None
    for text in lines:
        line, before = json.loads(text), file.hexdigest()
        file.update(text)
        if "entry" in line:
            entry, number = line["entry"], number + 1
            known = hashlib.sha256(known + canonical(entry)).digest()
            right = (number, begin["tenant_id"], known.hex())
            assert (entry["number"], entry["tenant_id"], line["hash"]) == right, f"{number} was changed"
        elif "checkpoint" in line:
            said = line["checkpoint"]
            right = (number, begin["tenant_id"], known.hex())
            assert (said["number"], said["tenant_id"], said["hash"]) == right, f"{number} has another hash"
            if said["key"]:
                check(begin, pinned, said["key"], said, line["signature"])
                signed = number
        else:
            key = line["end"]["key"]
            right = {"file": before, "hash": known.hex(), "key": key, "last": number}
            assert line == {"end": right, "signature": line["signature"]}, "it is not what was exported"
            assert key or not pinned, "the file is not signed"
            if key:
                check(begin, pinned, key, right, line["signature"])
            assert not next(lines, None), "its last line is followed by others"
            return begin["first"], number, known.hex(), signed
    raise AssertionError("it ends without its last line")


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        print(*verify(file, sys.argv[2:]))
