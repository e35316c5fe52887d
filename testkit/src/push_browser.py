"""A browser's part of web push: keys, and opening what a push service was given (http_ece), with the sender's token (py_vapid).

JSON comes on standard input: {"make": true} for new keys; private, auth, body (hex) and authorization of a message to open it; or
text, p256dh and auth to have pywebpush encrypt the text for the browser, as another sender.
"""

import base64
import json
import os
import sys

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02
from pywebpush import WebPusher


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
    # The library takes a list without blanks.
    assert Vapid02.verify(scheme + " " + "".join(rest.split())), "the token is not signed by its sender"
    given = dict(part.strip().split("=", 1) for part in rest.split(","))
    head, claims = (json.loads(octets(part)) for part in given["t"].split(".")[:2])
    assert head["alg"] == "ES256", head
    key = ec.derive_private_key(int.from_bytes(octets(message["private"]), "big"), ec.SECP256R1())
    body = http_ece.decrypt(
        bytes.fromhex(message["body"]),
        private_key=key,
        auth_secret=octets(message["auth"]),
        version="aes128gcm",
    )
    return {"text": body.decode(), "claims": claims, "sender": given["k"]}


def encrypted(message):
    keys = {"p256dh": message["p256dh"], "auth": message["auth"]}
    sender = WebPusher({"endpoint": "https://push.example/", "keys": keys})
    return {"body": sender.encode(message["text"].encode(), "aes128gcm")["body"].hex()}


asked = json.load(sys.stdin)
done = make() if "make" in asked else encrypted(asked) if "text" in asked else opened(asked)
print(json.dumps(done))
