"""A browser's part of web push: keys, and opening what a push service was given (http_ece), with the sender's token (ES256).

JSON comes on standard input: {"make": true} for new keys, or private, auth, body (hex) and authorization of a message.
"""

import base64
import json
import os
import sys

import http_ece
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def text(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def octets(value):
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def make():
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    private = key.private_numbers().private_value.to_bytes(32, "big")
    return {"p256dh": text(public), "auth": text(os.urandom(16)), "private": text(private)}


def opened(message):
    scheme, _, rest = message["authorization"].partition(" ")
    assert scheme == "vapid", scheme
    given = dict(part.strip().split("=", 1) for part in rest.split(","))
    sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), octets(given["k"]))
    signed, _, signature = given["t"].rpartition(".")
    raw = octets(signature)
    assert len(raw) == 64, len(raw)
    halves = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    sender.verify(encode_dss_signature(*halves), signed.encode(), ec.ECDSA(hashes.SHA256()))
    head, claims = (json.loads(octets(part)) for part in signed.split("."))
    assert head["alg"] == "ES256", head
    key = ec.derive_private_key(int.from_bytes(octets(message["private"]), "big"), ec.SECP256R1())
    body = http_ece.decrypt(
        bytes.fromhex(message["body"]),
        private_key=key,
        auth_secret=octets(message["auth"]),
        version="aes128gcm",
    )
    return {"text": body.decode(), "claims": claims, "sender": given["k"]}


asked = json.load(sys.stdin)
print(json.dumps(make() if "make" in asked else opened(asked)))
