"""Verifies an export of the audit log, from its description in actors/durable/src/audit/export and RFC 8032, and shares
no code with the program: `python3 verify_audit.py FILE [PUBLIC KEY]...`"""
import hashlib, json, sys
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519, as in RFC 8032
D = -121665 * pow(121666, -1, P) % P

def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P

def multiply(number, point):
    rest = multiply(number // 2, add(point, point)) if number else (0, 1)
    return add(rest, point) if number % 2 else rest

def point(encoded):
    sign, y = divmod(int.from_bytes(encoded, "little"), 2**255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    assert y < P and x * x % P == square and (x or not sign), "no point of the curve"
    return x if x % 2 == sign else P - x, y

def check(begin, pinned, key, said, signature):
    public, signature, text = bytes.fromhex(begin["keys"][key]), bytes.fromhex(signature), canonical(said)
    assert not pinned or public.hex() in pinned, f"it is signed by {public.hex()}, which is not known"
    digest, s = hashlib.sha512(signature[:32] + public + text).digest(), int.from_bytes(signature[32:], "little")
    right = add(point(signature[:32]), multiply(int.from_bytes(digest, "little") % L, point(public)))
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert len(signature) == 64 and s < L and multiply(s, base) == right, "a signature is wrong"

def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def verify(lines, pinned):
    first = next(lines)
    file, begin = hashlib.sha256(first), json.loads(first)["export"]
    number, tenant, known, signed = begin["first"] - 1, begin["tenant_id"], bytes.fromhex(begin["before"]), None
    for text in lines:
        line, before = json.loads(text), file.hexdigest()
        file.update(text)
        if entry := line.get("entry"):
            number, known = number + 1, hashlib.sha256(known + canonical(entry)).digest()
            same = (entry["number"], entry["tenant_id"], line["hash"]) == (number, tenant, known.hex())
            assert same, f"{number} was changed"
        elif said := line.get("checkpoint"):
            same = (said["number"], said["tenant_id"], said["hash"]) == (number, tenant, known.hex())
            assert same, f"{number} has another hash"
            if said["key"]:
                signed = check(begin, pinned, said["key"], said, line["signature"]) or number
        else:
            right = {"file": before, "hash": known.hex(), "key": line["end"]["key"], "last": number}
            assert line == {"end": right, "signature": line["signature"]}, "it is not what was exported"
            if right["key"]:
                check(begin, pinned, right["key"], right, line["signature"])
            assert (right["key"] or not pinned) and not next(lines, None), "it is not signed, or goes on behind its end"
            return begin["first"], number, known.hex(), signed
    raise AssertionError("it ends without its last line")

print(*verify(open(sys.argv[1], "rb"), sys.argv[2:]))
