"""The grammar of Sec-WebSocket-Extensions (RFC 6455 section 9.1)."""

import re
from collections.abc import Sequence

from wsgate.errors import RequestRefused
from wsgate.fields import list_members

# extension-list  = 1#extension
# extension       = extension-token *( ";" extension-param )
# extension-param = token [ "=" (token | quoted-string) ]
#     "the value after quoted-string unescaping MUST conform to the 'token' ABNF"
# The ABNF is that of RFC 2616, with its implied blanks between any two words. RFC 9110 section
# 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
# Possessive throughout, so that a line which does not match is not tried again in another way.
_BLANKS = rb"[ \t]*+"
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_QUOTED_TOKEN = rb'"(?:\\?[-!#$%&\'*+.^_`|~0-9A-Za-z])++"'
_PARAMETER = rb"%b(?:%b=%b(?:%b|%b))?+" % (_TOKEN, _BLANKS, _BLANKS, _TOKEN, _QUOTED_TOKEN)
_EXTENSION = rb"%b(?:%b;%b%b)*+" % (_TOKEN, _BLANKS, _BLANKS, _PARAMETER)
_LIST = re.compile(rb"(?:[ \t,]*+%b%b(?=,|\Z))*+[ \t,]*+" % (_EXTENSION, _BLANKS))


def offers_in(lines: Sequence[bytes]) -> list[str]:
    """Return the extensions in all lines of the header, each with its parameters, in order.

    Raises RequestRefused: 400 for a line that does not conform to the grammar, and for lines that
    hold no extension at all.
    """
    # Line by line, for a quoted string cannot go on in the next one.
    if not all(map(_LIST.fullmatch, lines)):
        raise RequestRefused(400, "Sec-WebSocket-Extensions is malformed")
    # No comma and no semicolon stands in a quoted string that is a token.
    offers = [member.decode("ascii") for line in lines for member in list_members(line)]
    if not offers:
        raise RequestRefused(400, "Sec-WebSocket-Extensions is empty")
    return offers


def parts_of(offer: str) -> list[str]:
    """Return an extension's name and its parameters."""
    return [part.strip(" \t") for part in offer.split(";")]


def parameter_of(part: str) -> tuple[str, str | None]:
    """Return a parameter's name and value, None for one without."""
    name, equals, value = part.partition("=")
    if not equals:
        return name, None
    return name.rstrip(" \t"), value.lstrip(" \t").strip('"').replace("\\", "")
