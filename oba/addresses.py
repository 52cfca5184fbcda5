"""Addresses of servers and databases: whether they are well formed, and how they may be shown.

An address may hold a login. Everything that is printed, logged or stored goes through :func:`redacted`.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, unquote

_SHAPE = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?P<login>[^@/?#\s]*)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[^@:/?#\[\]\s]*)(?::(?P<port>\d{1,5}))?"
    r"(?P<path>/[^@?#\s]*)?(?:\?(?P<query>[^@#\s]*))?",
    re.IGNORECASE,
)
_PLAIN_OPTIONS = {"charset", "connect_timeout", "driver", "host", "options", "port", "sslmode"}
"""Options of databases whose values may be shown."""
_LOGIN = re.compile(r"(?<!sqlite://)(?<=://)\S*@")
_SECRET_OPTION = re.compile(r"([?&;]\w*(?:pass|pwd|secret|token|key|cred|auth)\w*=)[^&;\s'\"]+", re.IGNORECASE)
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
_SHORT = 4


def is_well_formed(uri: str) -> bool:
    """Return whether an address can be taken apart without doubt: ``scheme://login@host:port/path?options``."""
    match = _SHAPE.fullmatch(uri)
    return match is not None and 0 < int(match["port"] or 1) < 2**16


def has_credentials(uri: str) -> bool:
    """Return whether an address holds a password or a token, or may hold one.

    Args:
        uri: The address, well formed or not.

    Returns:
        False for a bare user name of a database, whose password comes from elsewhere.
    """
    if _is_file(uri):
        return False
    match = _SHAPE.fullmatch(uri)
    if match is None:
        return "@" in uri or _SECRET_OPTION.search(uri) is not None
    login = match["login"] or ""
    return ":" in login or (bool(login) and match["scheme"].startswith("http")) or bool(_hidden_options(match))


def redacted(text: str, uri: str = "") -> str:
    """Return a text without logins and passwords.

    Args:
        text: An address, or any text.
        uri: An address that the text may repeat, whole or in parts.

    Returns:
        The text; addresses lose ``user:password@`` and options that are not known to be harmless.
    """
    if _SHAPE.fullmatch(text):
        return _shown(text)
    text = text.replace(uri, _shown(uri)) if uri else text
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        exact = re.escape(secret)
        # Short ones may be parts of harmless words.
        text = re.sub(exact if len(secret) >= _SHORT else rf"(?<!\w){exact}(?!\w)", "***", text)
    return _SECRET_OPTION.sub(r"\1***", _LOGIN.sub("", text))


def _is_file(uri: str) -> bool:
    """Return whether an address is a file's, which has no login: ``@`` and ``?`` in its path are nothing else."""
    return uri.lower().startswith("sqlite:")


def _shown(uri: str) -> str:
    """Return an address as it may be shown; of a malformed one, of which nobody knows what is what, the scheme."""
    match = _SHAPE.fullmatch(uri)
    if _is_file(uri):
        return uri
    if match is None:
        return f"{uri.partition('://')[0]}://…"
    plain = [f"{key}={value}" for key, value in parse_qsl(match["query"] or "") if key in _PLAIN_OPTIONS]
    hidden = [f"{key}=***" for key in _hidden_options(match)]
    port = f":{match['port']}" if match["port"] else ""
    query = f"?{'&'.join(plain + hidden)}" if plain or hidden else ""
    return f"{match['scheme']}://{match['host']}{port}{match['path'] or ''}{query}"


def _hidden_options(match: re.Match[str]) -> dict[str, str]:
    """Return the options whose values must not be shown."""
    return {key: value for key, value in parse_qsl(match["query"] or "") if key not in _PLAIN_OPTIONS}


def _secrets(uri: str) -> set[str]:
    """Return the texts that must not be shown: of an address, as it is written and as it is meant, and variables."""
    found = {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    match = _SHAPE.fullmatch(uri)
    if match and not _is_file(uri):
        login = match["login"] or ""
        found |= {login if match["scheme"].startswith("http") else "", login.partition(":")[2]}
        found |= set(_hidden_options(match).values())
    return {text for secret in found for text in (secret, unquote(secret)) if text}
