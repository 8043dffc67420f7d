"""Removal of secrets from text that is shown or stored."""

from __future__ import annotations

import re

from pipeline.storage.known_secrets import known_secrets

_VALUE = r"""[^\s"'&,;<>]+"""
_NAME = (
    r"signature|token|secret|passw(?:or)?d|pwd|credentials?|api[_-]?key|secret[_-]?key|sig"
    r"|access[_-]?key(?:[_-]?id)?|account[_-]?key|shared[_-]?access[_-]?signature"
)
_RULES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), "***"),
    (re.compile(r"""(://)[^\s/@:"']*:(?!\d+(?:[/\s"']|$))[^\s"'<>]*@"""), r"\1***@"),
    (re.compile(r"\b(bearer|sharedkey)\s+[\w.~+/:=-]{12,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"""(authorization["']?\s*[=:]\s*["']?basic)\s+\S+""", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(rf"""(?<![A-Za-z0-9])([\w.-]*?(?:{_NAME})["']?\s*[=:]\s*["']?)(?!\d+\b){_VALUE}""", re.IGNORECASE),
        r"\1***",
    ),
    (re.compile(r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}\b"), "***"),
    (re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_\w{20,}|ya29\.[\w-]{10,}|AIza[\w-]{30,})"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "***"),
)


def redact(text: str) -> str:
    """Return the text with `***` for each password, token, signature and key.

    They are found by the names before them, by their formats, and by the values known to this process.
    """
    for value in known_secrets():
        text = text.replace(value, "***")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
