"""An OpenID provider: discovery, sign-in, token, keys, userinfo, on a port the system chose.

Whoever comes to /authorize is signed in at once, as `claims` say. `wrong` changes what it does:
`{"nonce": "other"}` puts that into the id_token, `{"iss": None}` leaves it out.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jwk, jwt


class OpenId:
    """What the server knows and was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.claims: dict[str, Any] = {
            "sub": "u-1", "email": "ann@example.org", "email_verified": True, "name": "Ann O.",
        }  # fmt: skip
        self.wrong: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.described: dict[str, Any] = {}
        self.status = 200
        self.algorithm = "RS256"
        self.secret = "s3cret"
        self.asked: list[str] = []
        self.passports: list[str | None] = []
        self.begun: dict[str, dict[str, str]] = {}
        self.new_key("k1")

    def new_key(self, name: str) -> None:
        """From now on it signs with another key."""
        self.key = jwk.RSAKey.generate_key(2048, parameters={"kid": name, "use": "sig"})

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": self.url + "/authorize?tenant=7",
            "token_endpoint": self.url + "/token",
            "jwks_uri": self.url + "/keys",
            "userinfo_endpoint": self.url + "/userinfo",
            **self.described,
        }

    def authorize(self, asked: Mapping[str, str]) -> str:
        """Where the browser is sent back to."""
        code = f"code-{len(self.begun)}"
        self.begun[code] = dict(asked)
        answer = {"code": code, "state": asked["state"], "iss": self.url}
        return asked["redirect_uri"] + "?" + urlencode(answer)

    def token(self, form: Mapping[str, str], passport: str | None) -> tuple[int, dict[str, Any]]:
        begun = self.begun.pop(form["code"], None)
        challenge = hashlib.sha256(form["code_verifier"].encode()).digest()
        proved = _coded(challenge)
        self.passports.append(passport)
        if passport is not None:
            pair = base64.b64decode(passport.removeprefix("Basic ")).decode().split(":")
            client, secret = (unquote_plus(one) for one in pair)
        else:
            client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if begun is None or begun["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if proved != begun["code_challenge"] or begun["code_challenge_method"] != "S256":
            return 400, {"error": "invalid_grant", "error_description": "wrong verifier"}
        if client != begun["client_id"] or secret != self.secret:
            return 401, {"error": "invalid_client"}
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": client, "iat": now, "exp": now + 300,
            "nonce": begun["nonce"], **self.claims, **self.wrong,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return 200, {"access_token": "at-1", "token_type": "Bearer", "id_token": self.sign(claims)}

    def sign(self, claims: dict[str, Any]) -> str:
        if self.algorithm in ("none", "HS256"):  # by hand: no library of today does it
            header = {"alg": self.algorithm, "kid": self.key.kid}
            signed = ".".join(_coded(json.dumps(part).encode()) for part in (header, claims))
            public = self.key.as_pem(private=False)
            signature = hmac.digest(public, signed.encode(), "sha256")
            return f"{signed}.{_coded(signature) if self.algorithm == 'HS256' else ''}"
        return jwt.encode({"alg": self.algorithm, "kid": self.key.kid}, claims, self.key)


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def serving() -> Iterator[OpenId]:
    """The provider, until the end of the block."""
    openid = OpenId()

    class Door(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def tell(self, status: int, told: Any) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            openid.asked.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if openid.status != 200:
                self.tell(openid.status, {"error": "server_error", "error_description": "asleep"})
            elif parts.path == "/.well-known/openid-configuration":
                self.tell(200, openid.description())
            elif parts.path == "/keys":
                self.tell(200, {"keys": [openid.key.as_dict(private=False)]})
            elif parts.path == "/userinfo":
                fine = self.headers["Authorization"] == "Bearer at-1"
                self.tell(200 if fine else 401, openid.userinfo if fine else {})
            elif parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", openid.authorize(query))
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.tell(404, {})

        def do_POST(self) -> None:
            openid.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.tell(*openid.token(form, self.headers["Authorization"]))

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        openid.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield openid
        server.shutdown()
