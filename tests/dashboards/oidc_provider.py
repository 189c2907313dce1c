"""A small OpenID Connect provider on loopback: discovery, authorization code with PKCE, RS256 tokens, keys.

Whoever comes is `provider.claims`: there is no password to type. It refuses a wrong client, code, redirect or verifier.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

CLIENT_ID, CLIENT_SECRET = "flightdeck", "not-a-secret"
KEY_ID = "test"


class Provider:
    """The provider; `claims` say who logs in next.

    Parameters
    ----------
    url
        Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.claims: dict[str, object] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._asked: dict[str, dict[str, str]] = {}

    def discovery(self) -> dict[str, object]:
        """Return what a client reads first."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Return where to send the browser back to, with a code."""
        code = secrets.token_urlsafe(16)
        self._asked[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, given: dict[str, str], authorization: str) -> dict[str, object]:
        """Return the tokens for a code, which is good for once."""
        asked = self._asked.pop(given["code"])
        client = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        challenge = _base64url(hashlib.sha256(given["code_verifier"].encode()).digest())
        if (authorization, given["redirect_uri"], challenge) != (
            f"Basic {client}",
            asked["redirect_uri"],
            asked["code_challenge"],
        ):
            raise PermissionError("another client, address or verifier than asked for the code")
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        return {"access_token": "none", "token_type": "Bearer", "id_token": self._signed({**claims, **self.claims})}

    def jwks(self) -> dict[str, object]:
        """Return the public key."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256"}
        return {"keys": [{**key, "n": _number(numbers.n), "e": _number(numbers.e)}]}

    def _signed(self, claims: dict[str, object]) -> str:
        header = {"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{text}.{_base64url(self._key.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"


@contextmanager
def oidc_provider() -> Iterator[Provider]:
    """Run a provider on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize(_single(parts.query)))
                self.end_headers()
                return
            found = {"/.well-known/openid-configuration": provider.discovery, "/jwks": provider.jwks}[parts.path]
            self._answer(found())

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(provider.token(_single(form), self.headers.get("Authorization", "")))

        def _answer(self, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _single(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
