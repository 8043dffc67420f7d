"""A password-protected HTTP proxy in front of the S3 server, and error responses that repeat secrets."""

from __future__ import annotations

import base64
from collections.abc import Callable

from tests.faults.canary_secrets import canary
from tests.faults.faulty_proxy import Answer, Connection, Proxy, Request


class PasswordProxy(Proxy):
    """A corporate HTTP proxy that needs a password.

    `refuse` may return a response to give instead of forwarding; `users` collects `Proxy-Authorization` headers.
    """

    def __init__(self, upstream: str, refuse: Callable[[Request], Answer | None] = lambda _: None) -> None:
        super().__init__(upstream)
        self.refuse, self.users = refuse, set[str]()
        self.user = "Basic " + base64.b64encode(f"user:{canary('proxy')}".encode()).decode()

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that make clients use the proxy."""
        return {"HTTP_PROXY": f"http://user:{canary('proxy')}@127.0.0.1:{self.port}"}

    def handle(self, request: Request, connection: Connection) -> None:
        self.users.add(request.headers.pop("proxy-authorization", ""))
        path = request.path.removeprefix(f"http://{self.upstream}")
        plain = Request(method=request.method, path=path, headers=request.headers, body=request.body)
        connection.answer(self.refuse(plain) or self.forward(plain))


def refusal(status: int, code: str, message: str) -> Callable[[Request], Answer | None]:
    """Make a handler that refuses GET requests with an S3 error whose message repeats the session token."""

    def refuse(request: Request) -> Answer | None:
        token = request.headers.get("x-amz-security-token")
        body = f"<Error><Code>{code}</Code><Message>{message} {token}</Message></Error>"
        answer = Answer(status=status, headers={"Content-Type": "application/xml"}, body=body.encode())
        return answer if request.method == "GET" else None

    return refuse
