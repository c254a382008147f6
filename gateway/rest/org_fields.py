"""The types of an organisation's fields that need more than a pattern: addresses, colours, origins."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gateway.identity.emails import normal_email
from gateway.orgs import limits

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
_ORIGIN = rf"^https://{_HOST}(?::[0-9]{{1,5}})?$"
PORT_MAX = 65_535


def _email(value: str) -> str:
    try:
        return normal_email(value)
    except ValueError as error:
        raise PydanticCustomError("email", "{why}", {"why": str(error)}) from None


def _email_or_nothing(value: str) -> str:
    return _email(value) if value else ""


def _lower(value: str) -> str:
    return value.lower()


def _origin(value: str) -> str:
    """As browsers send it: lower case, without the port that goes without saying."""
    scheme, _, rest = value.lower().partition("://")
    host, _, port = rest.partition(":")
    if port and not 1 <= int(port) <= PORT_MAX:
        raise PydanticCustomError("origin_port", "a port is 1 to 65535")
    return f"{scheme}://{host}" if not port or int(port) == 443 else f"{scheme}://{host}:{int(port)}"


def _each_once(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


Email = Annotated[str, Field(min_length=3, max_length=254), AfterValidator(_email)]
SupportEmail = Annotated[str, Field(max_length=254), AfterValidator(_email_or_nothing)]
Color = Annotated[str, Field(pattern="^(?:#[0-9A-Fa-f]{6})?$"), AfterValidator(_lower)]
LogoUrl = Annotated[
    str,
    Field(
        max_length=limits.URL_CHARS_MAX,
        pattern=rf"^(?:https://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~:/?#@!$&()*+,;=%-]*)?)?$",
    ),
]
Locale = Annotated[
    str,
    Field(max_length=limits.LOCALE_CHARS_MAX, pattern="^(?:[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)?$"),
]
Origin = Annotated[str, Field(max_length=limits.ORIGIN_CHARS_MAX, pattern=_ORIGIN), AfterValidator(_origin)]
Origins = Annotated[list[Origin], Field(max_length=limits.ALLOWED_ORIGINS_MAX), AfterValidator(_each_once)]
