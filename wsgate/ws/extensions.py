"""The grammar of Sec-WebSocket-Extensions (RFC 6455 section 9.1)."""

import re
from collections.abc import Sequence

from wsgate.errors import RequestRefused
from wsgate.fields import list_members

# extension-list  = 1#extension
# extension       = extension-token *( ";" extension-param )
# extension-param = token [ "=" (token | quoted-string) ]
#     "the value after quoted-string unescaping MUST conform to the 'token' ABNF"
# The ABNF is that of RFC 2616, with implied whitespace between any two words. RFC 9110 section
# 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
# All quantifiers are possessive: a line that does not match must not cause backtracking.
_WHITESPACE = rb"[ \t]*+"
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_QUOTED_TOKEN = rb'"(?:\\?[-!#$%&\'*+.^_`|~0-9A-Za-z])++"'
_PARAMETER = rb"%b(?:%b=%b(?:%b|%b))?+" % (_TOKEN, _WHITESPACE, _WHITESPACE, _TOKEN, _QUOTED_TOKEN)
_EXTENSION = rb"%b(?:%b;%b%b)*+" % (_TOKEN, _WHITESPACE, _WHITESPACE, _PARAMETER)
_LIST = re.compile(rb"(?:[ \t,]*+%b%b(?=,|\Z))*+[ \t,]*+" % (_EXTENSION, _WHITESPACE))


def offers_in(lines: Sequence[bytes]) -> list[str]:
    """Return the offered extensions, each with its parameters, in order.

    lines: the values of all headers of that name. Raises RequestRefused with 400 for a line that
    does not conform to the grammar, and if there is no extension at all.
    """
    # Each line on its own: a quoted string cannot continue in the next one.
    if not all(map(_LIST.fullmatch, lines)):
        raise RequestRefused(400, "Sec-WebSocket-Extensions is malformed")
    # A quoted string that is a token contains no comma and no semicolon.
    offers = [member.decode("ascii") for line in lines for member in list_members(line)]
    if not offers:
        raise RequestRefused(400, "Sec-WebSocket-Extensions is empty")
    return offers


def parts_of(offer: str) -> list[str]:
    """Return an extension's name and its parameters."""
    return [part.strip(" \t") for part in offer.split(";")]


def parameter_of(part: str) -> tuple[str, str | None]:
    """Return a parameter's name and value, None if it has no value."""
    name, equals, value = part.partition("=")
    if not equals:
        return name, None
    return name.rstrip(" \t"), value.lstrip(" \t").strip('"').replace("\\", "")
