"""A proxy with a password before an S3 server, as companies have it, and stores' refusals that repeat secrets."""

from __future__ import annotations

import base64
from collections.abc import Callable

from tests.faults.canary_secrets import canary
from tests.faults.faulty_proxy import Answer, Connection, Proxy, Request


class Gateway(Proxy):
    """A proxy as companies have it, for which clients need a password. refuse: what it answers itself, if anything;
    users: who was let through, by their `Proxy-Authorization`."""

    def __init__(self, upstream: str, refuse: Callable[[Request], Answer | None] = lambda _: None) -> None:
        super().__init__(upstream)
        self.refuse, self.users = refuse, set[str]()
        self.user = "Basic " + base64.b64encode(f"user:{canary('proxy')}".encode()).decode()

    @property
    def variables(self) -> dict[str, str]:
        """Those by which clients find it."""
        return {"HTTP_PROXY": f"http://user:{canary('proxy')}@127.0.0.1:{self.port}"}

    def handle(self, request: Request, connection: Connection) -> None:
        self.users.add(request.headers.pop("proxy-authorization", ""))
        path = request.path.removeprefix(f"http://{self.upstream}")
        plain = Request(method=request.method, path=path, headers=request.headers, body=request.body)
        connection.answer(self.refuse(plain) or self.forward(plain))


def refusal(status: int, code: str, words: str) -> Callable[[Request], Answer | None]:
    """A store's to whoever wants to list or to read, whose words are of the kind that repeats what it was given."""

    def refuse(asked: Request) -> Answer | None:
        given = asked.headers.get("x-amz-security-token")
        body = f"<Error><Code>{code}</Code><Message>{words} {given}</Message></Error>"
        answer = Answer(status=status, headers={"Content-Type": "application/xml"}, body=body.encode())
        return answer if asked.method == "GET" else None

    return refuse
