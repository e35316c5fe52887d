"""Checks an access token with joserfc, and makes others with it, of which the program must accept one.

Reads {"jwks", "token", "issuer", "audience", "private"} from standard input; `private` is the signing key, base64 of PKCS #8.
Prints {"accepted": token, "refused": {what is wrong with it: token}}.
"""

import base64
import hashlib
import hmac
import json
import sys
import time

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from joserfc.jwt import JWTClaimsRegistry

given = json.load(sys.stdin)
keys = KeySet.import_key_set(given["jwks"])
token = jwt.decode(given["token"], keys, algorithms=["ES256"])

header, claims = token.header, token.claims
assert header["alg"] == "ES256" and header["typ"] == "at+jwt", header
assert set(header) == {"alg", "typ", "kid"}, header
published = next(key for key in keys.keys if key.kid == header["kid"])
assert published.thumbprint() == header["kid"], "the id is no thumbprint (RFC 7638)"
assert not published.is_private, "the private key is published"
essential = {name: {"essential": True} for name in ("sub", "client_id", "iat", "nbf", "exp", "jti", "sid", "tid")}
registry = JWTClaimsRegistry(
    iss={"essential": True, "value": given["issuer"]},
    aud={"essential": True, "value": given["audience"]},
    **essential,
)
registry.validate(claims)
assert claims["exp"] - claims["iat"] <= 900, claims
for personal in ("email", "name", "roles", "permissions"):
    assert personal not in claims, claims


def pem(text):
    return f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def hashed(changed):
    """Signed by HMAC with the public key, which everybody has."""
    head = {"alg": "HS256", "typ": "at+jwt", "kid": header["kid"]}
    signed = encoded(json.dumps(head).encode()) + b"." + encoded(json.dumps(changed).encode())
    public = published.as_pem(private=False)
    return (signed + b"." + encoded(hmac.new(public, signed, hashlib.sha256).digest())).decode()


def signed(changed_header=None, key=None, without=(), **changed):
    new = {name: value for name, value in {**claims, **changed}.items() if name not in without}
    return jwt.encode({**header, **(changed_header or {})}, new, key or own, algorithms=["ES256", "ES384"])


own = ECKey.import_key(pem(given["private"]))
stranger = ECKey.generate_key("P-256")
longer = ECKey.generate_key("P-384")
now = int(time.time())
refused = {
    "another key with the same id": signed(key=stranger),
    "a key in its own head": signed({"jwk": stranger.as_dict(private=False)}, key=stranger),
    "the public key as a secret": hashed(claims),
    "another algorithm": signed({"alg": "ES384"}, key=longer),
    "a type of another token": signed({"typ": "JWT"}),
    "an unknown key": signed({"kid": "unknown"}),
    "another issuer": signed(iss="https://evil.example"),
    "another audience": signed(aud="other"),
    "a time to come": signed(nbf=now + 600),
    "a time that is over": signed(exp=now - 600),
    "times as text": signed(exp=str(now + 600)),
    "another session": signed(sid="01900000-0000-7000-8000-000000000000"),
    **{f"no {name}": signed(without=(name,)) for name in ("iss", "aud", "sub", "exp", "nbf", "sid", "tid")},
}
print(json.dumps({"accepted": signed(exp=now + 300), "refused": refused}))
