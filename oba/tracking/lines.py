"""Lines of JSON that notice when they were damaged: each ends with a checksum of the rest.

A line that was written before there were checksums has none and is read as it is.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

_CHECKSUM = re.compile(rb', "crc": "([0-9a-f]{8})"\}')


def seal(fields: Mapping[str, Any]) -> bytes:
    """Write fields as one line, without its end.

    Args:
        fields: Plain values, at least one; none named ``crc``.

    Returns:
        The JSON text, whose last field is the checksum.
    """
    body = json.dumps(fields).encode()
    return body[:-1] + f', "crc": "{zlib.crc32(body):08x}"}}'.encode()


def unseal(line: bytes) -> tuple[dict[str, Any] | None, bool]:
    """Read a line.

    Args:
        line: What :func:`seal` returned, or an object as JSON without a checksum.

    Returns:
        The fields, or ``None`` if the line is damaged; and whether it has a checksum, right or wrong.
    """
    body, sealed = line, _CHECKSUM.fullmatch(line[-20:])
    if sealed:
        body = line[:-20] + b"}"
        if zlib.crc32(body) != int(sealed[1], 16):
            return None, True
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None, sealed is not None
    return (fields if isinstance(fields, dict) else None), sealed is not None
