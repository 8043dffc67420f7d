"""Address of the Ray cluster: where it is configured, and whether a cluster answers there.

`ray.init` tries a dead address for up to 14 minutes and cannot be interrupted meanwhile, so the address is tried first.
"""

import os
import socket
import time
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from ray._common.utils import get_ray_address_file
from ray._private import services

from pipeline.runtime.errors import UsageError, reason
from pipeline.storage import redact

VARIABLE = "RAY_ADDRESS"
ANSWER_SECONDS = 6.0  # during which an address is tried: the cluster may be starting, or its head be busy
PAUSE_SECONDS = 0.5  # between attempts
_CLIENT_PORT = 10001
_HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # with an empty SETTINGS frame
_SETTINGS = 4  # type of the frame that an HTTP/2 server sends first; gRPC, which Ray uses, is HTTP/2


@dataclass(frozen=True, kw_only=True)
class ClusterAddress:
    """A configured address of a cluster. `source`: where it is configured, for messages."""

    address: str
    source: str
    remedy: str

    def check(self) -> None:
        """Raise UsageError if no cluster answers within ANSWER_SECONDS."""
        try:
            host_and_port = _host_and_port(self.address)
            if host_and_port:
                _await_greeting(*host_and_port)
        except (OSError, ValueError) as error:
            raise self.error(error) from error

    def error(self, cause: Exception) -> UsageError:
        """Return the error of an address where no cluster answers."""
        words = getattr(cause, "strerror", None) or reason(cause)
        return UsageError(f"no Ray cluster answers at {redact(self.source)}: {words}; {self.remedy}")

    def refusal(self, cause: Exception) -> UsageError:
        """Return the error of a cluster to which Ray does not connect, though it answers."""
        return UsageError(
            f"Ray does not connect to the cluster at {redact(self.source)}: {reason(cause)}; if the cluster has a "
            f"token, as by default where ~/.ray/auth_token exists, set RAY_AUTH_MODE=token, or else {self.remedy}"
        )


def find_address(address: str | None) -> ClusterAddress | None:
    """Return the address that `ray.init` connects to for the option `address`; None if a local cluster is started.

    The option has precedence over RAY_ADDRESS, and this over the file in which `ray start` records its cluster. As an
    option or variable, `auto` means any cluster of this machine; without both, one that another program started is not
    joined. Raises UsageError if there is none, or the address holds a password.
    """
    variable = os.environ.get(VARIABLE)
    named = address if address and address != "auto" else variable or address
    if named == "local":
        return None
    if named and "@" in named:
        source = "address" if named == address else f"the environment variable {VARIABLE}"
        raise UsageError(
            f"{source} (***@{named.rpartition('@')[2]}) must not contain a user or password; the token of a cluster is "
            "in the environment variable RAY_AUTH_TOKEN"
        )
    if named and named != "auto":
        return _named_in_option(named) if named == address else _named_in_variable(named)
    recorded = _recorded_address()
    if named == "auto":
        try:
            found = services.get_ray_address_from_environment("auto", None)
        except ConnectionError as error:
            option_or_variable = "address" if address else VARIABLE
            raise UsageError(
                f"{option_or_variable} (auto) is for a Ray cluster of this machine, and there is none: start it with "
                "`ray start --head`, or give its address"
            ) from error
        if found != recorded:
            return _named_in_option(found)
    return _named_in_file(recorded) if recorded else None


def _recorded_address() -> str | None:
    try:
        address: str | None = services.find_bootstrap_address(None)
    except OSError as error:
        raise UsageError(f"{get_ray_address_file(None)} cannot be read: {error.strerror}; delete the file") from error
    return address


def _named_in_option(address: str) -> ClusterAddress:
    return ClusterAddress(
        address=address,
        source=f"address ({address})",
        remedy="start the cluster or correct the address; `local` starts a cluster for this run",
    )


def _named_in_variable(address: str) -> ClusterAddress:
    return ClusterAddress(
        address=address,
        source=f"the address in the environment variable {VARIABLE} ({address})",
        remedy="start the cluster, or correct or unset the variable",
    )


def _named_in_file(address: str) -> ClusterAddress:
    file = get_ray_address_file(None)
    return ClusterAddress(
        address=address,
        source=f"{address}, the address of the last cluster in {file}",
        remedy="start the cluster again, or delete the file, as `ray stop` does",
    )


def _await_greeting(host: str, port: int) -> None:
    """Connect until a gRPC server answers. Raises the OSError of the last attempt after ANSWER_SECONDS."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return _greet(host, port, deadline)
        except OSError:
            if time.monotonic() + PAUSE_SECONDS > deadline:
                raise
        time.sleep(PAUSE_SECONDS)


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Return host and port of an address; None for a scheme of another provider. Raises ValueError for other text."""
    scheme, separator, _ = address.partition("://")
    is_foreign = bool(separator) and scheme != "ray"
    if is_foreign and scheme not in ("http", "https") and scheme.isidentifier() and find_spec(scheme):
        return None  # Ray loads the module of that name to connect
    parts = urlsplit(address if separator else f"//{address}")
    if is_foreign or not parts.hostname or not (parts.port or separator):
        raise ValueError("an address is HOST:PORT with the port of the head, as in 10.0.0.5:6379, or ray://HOST:10001")
    if separator:
        return parts.hostname, parts.port or _CLIENT_PORT
    assert parts.port is not None
    return services.resolve_ip_for_localhost(parts.hostname), parts.port  # `ray.init` replaces localhost, too


def _greet(host: str, port: int, deadline: float) -> None:
    """Connect and wait for the first bytes of a gRPC server. Raises OSError if they do not come in time."""

    def seconds_left() -> float:
        return max(PAUSE_SECONDS, deadline - time.monotonic())

    with socket.create_connection((host, port), timeout=seconds_left()) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return  # the server waits for a handshake with Ray's certificates
        connection.sendall(_HTTP2_START)
        header = b""
        while len(header) < 9:  # length of the frame in 3 bytes, its type, flags and stream
            connection.settimeout(seconds_left())
            received = connection.recv(9 - len(header))
            if not received:
                raise ConnectionError("something accepts connections there and closes them without an answer of Ray")
            header += received
    if header[3] != _SETTINGS:
        raise ConnectionError("another program than Ray answers there")
