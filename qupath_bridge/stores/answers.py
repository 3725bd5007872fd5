"""Answers of object storage to what it cannot do, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CLIENT_ERRORS", "MAY_HEAL", "REASONS", "UNREACHED", "said_in"]

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d+)")

CLIENT_ERRORS = frozenset({"400", "401", "403"})
"""States of an answer to HEAD, which has no text, behind which is a code."""

MAY_HEAL = frozenset(
    {
        "ExpiredToken", "TokenRefreshRequired", "RequestExpired", "RequestTimeout", "SlowDown",
        "Throttling", "OperationAborted", "408", "429", "500", "502", "503", "504",
    }
)  # fmt: skip
"""Answers after which the same request may succeed later: credentials are renewed in time."""

_GONE = ("the bucket does not exist", "Make the bucket, or correct its name in the URL.")
_EXPIRED = (
    "the credentials have expired",
    "Get new ones, set {variables}, and start again where they are set: resume the run, or retry "
    "the job.",
)
_REFUSED = (
    "access is denied",
    "Set {variables}, or ask for rights to read, write, list and delete.",
)
REASONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "NoSuchBucket": _GONE,
        "ContainerNotFound": _GONE,
        "ExpiredToken": _EXPIRED,
        "TokenRefreshRequired": _EXPIRED,
        "RequestExpired": _EXPIRED,
        "AccessDenied": _REFUSED,
        "AllAccessDisabled": _REFUSED,
        "AuthorizationFailure": _REFUSED,
        "AuthenticationFailed": _REFUSED,
        "InvalidAccessKeyId": ("the access key is not known", "Set {variables}."),
        "InvalidToken": ("the session token is not valid", "Set {variables}."),
        "SignatureDoesNotMatch": ("the secret key does not fit the access key", "Set {variables}."),
        "401": _REFUSED,
        "403": _REFUSED,
    }
)
"""Answers of services: code of the error, or else status → reason and next step."""

UNREACHED = (
    "the service cannot be reached",
    "Check the network, and set {variables}. Then resume the run, or retry the job.",
)


def said_in(error: Exception) -> tuple[str, ...]:
    """Return code and status of the answer behind an error of obstore, as far as it has them."""
    text = str(error)
    return tuple(match[1] for match in (_CODE.search(text), _STATUS.search(text)) if match)
