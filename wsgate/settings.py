"""Declarations of settings: `setting()` describes a field, and everything else is made from that.

`Config` declares each setting once. Its validation, the command line, the environment variables and
docs/reference/settings.md are made from the declarations.
"""

import dataclasses
import difflib
import functools
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from wsgate.errors import ConfigError

T = TypeVar("T")

_METADATA = "wsgate.setting"
_KEYWORD_HELP = "wsgate.keyword"


class Kind(Enum):
    """The type of a setting's value. The text completes an error: "--port must be ..."."""

    WHOLE_NUMBER = "a whole number"
    PERMISSIONS = "file permissions such as 0o660"
    NUMBER = "a number"
    SWITCH = "True or False"
    TEXT = "a string"
    PATH = "a path: a string or a path object"
    TEXTS = "a string or a list of strings"
    PAIRS = "a list of (name, value) pairs, both of them strings"


# The annotations that a setting may have, besides a Literal of strings.
_KINDS: dict[object, Kind] = {
    int: Kind.WHOLE_NUMBER,
    float: Kind.NUMBER,
    bool: Kind.SWITCH,
    str: Kind.TEXT,
    str | os.PathLike[str]: Kind.PATH,
    Sequence[str]: Kind.TEXTS,
    Sequence[tuple[str, str]]: Kind.PAIRS,
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on a value: what the value must be, and a function that returns whether it is."""

    wanted: str
    allows: Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of one setting.

    Args:
        group: the heading under which help and reference list it.
        help: full sentences that describe its effect, with units, in Markdown.
        unit: what a number counts, in the plural: "seconds".
        default_text: what applies by default, if the default value does not show it.
        minimum, above, maximum: bounds on a number; `above` itself is not allowed.
        check: a bound that the others cannot express.
        option: its option on the command line.
        takes_value: its option takes `true` or `false`; other switches have a `--no-` form.
        commas: a string is a list, with commas between the members.
        repeated: its option may be given several times; a single string counts as a list of one,
            and None, which frameworks pass on as the default of uvicorn, as an empty list.
        instead: what to use instead of a class of the program, "module:attribute", which uvicorn
            takes as well; completes the error.
        secret: the value is a secret: it is never shown.
        aliases: further names that are accepted, each as option, variable and keyword.
        shared_variable: a variable that other servers read as well; it replaces the default.
        normalize: turns what Python programs may pass besides, such as None, into a value.
        name, kind, default, choices, is_optional: taken from the field that it describes.
    """

    group: str
    help: str
    unit: str
    default_text: str
    minimum: float | None
    above: float | None
    maximum: float | None
    check: Bound | None
    option: str
    takes_value: bool
    commas: bool
    repeated: bool
    secret: bool
    aliases: tuple[str, ...]
    shared_variable: str
    instead: str
    normalize: Callable[[object], object] | None
    name: str = ""
    kind: Kind = Kind.TEXT
    default: Any = None
    choices: tuple[str, ...] = ()
    is_optional: bool = False

    @property
    def plain_help(self) -> str:
        """The help text without its Markdown."""
        return self.help.replace("`", "")

    @property
    def is_switch(self) -> bool:
        """Whether its option takes no value and has a `--no-` form."""
        return self.kind is Kind.SWITCH and not self.takes_value

    @property
    def options(self) -> tuple[str, ...]:
        """Its options on the command line; those after the first are aliases."""
        return (self.option, *map(option_of, self.aliases))

    @property
    def keys(self) -> tuple[str, ...]:
        """Its names in Python and, with hyphens or underscores, in a configuration file."""
        return tuple(dict.fromkeys((self.name, *map(name_of, self.options))))

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the first of them with a value wins."""
        return tuple(dict.fromkeys(map(variable_of, (*self.options, self.name))))

    def shared_value(self, variables: Mapping[str, str]) -> Any:
        """Return the value that the shared variable gives it; None if that is not set."""
        text = variables.get(self.shared_variable)
        return None if text is None else self.convert(text)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The bounds on its value, None excepted."""
        return tuple(self._bounds())

    def _bounds(self) -> Iterable[Bound]:
        low, above, high = self.minimum, self.above, self.maximum
        if self.choices:
            yield Bound(f"one of {', '.join(self.choices)}", self.choices.__contains__)
        if above is not None:
            yield Bound(f"greater than {above}", lambda value: value > above)
        if low is not None and high is not None:
            yield Bound(f"{low} to {high}", lambda value: low <= value <= high)
        elif low is not None:
            yield Bound(f"{low} or greater", lambda value: value >= low)
        elif high is not None:
            yield Bound(f"at most {high}", lambda value: value <= high)
        if self.check is not None:
            yield self.check

    def convert(self, value: object) -> object:
        """Return a value as the setting keeps it: paths as strings, repeated values in a list."""
        if self.normalize is not None:
            value = self.normalize(value)
        if self.repeated:
            return _to_tuple(value)
        if self.commas and value is not None:
            return _to_tuple(_split(value) if isinstance(value, str) else value)
        return _to_text(value) if self.kind is Kind.PATH else value

    def validate(self, value: object) -> None:
        """Raise ConfigError for a value of another type, or one that is out of bounds."""
        if value is None and self.is_optional:
            return
        if not self.choices and not self.has_type(value):
            raise self._error(self.kind.value + ("" if self.secret else _not_given(value)))
        for bound in self.bounds:
            if not bound.allows(value):
                raise self._error(bound.wanted + self.hint(value))

    def has_type(self, value: object) -> bool:
        """Return whether a value is of the setting's kind."""
        return _MATCHES[self.kind](value)

    def hint(self, value: object) -> str:
        """Return the end of an error for a value that names a class of the program, or nothing."""
        names_class = self.instead and isinstance(value, str) and ":" in value
        return f"; {self.instead}" if names_class else ""

    def _error(self, wanted: str) -> ConfigError:
        return ConfigError(f"{self.option} must be {wanted}", setting=self.name)


def _split(text: str) -> list[str]:
    return [member.strip() for member in text.split(",") if member.strip()]


def _to_tuple(value: object) -> object:
    """Return the values of a repeated setting; another type as it is, for `validate`."""
    if value is None:
        return ()
    if isinstance(value, (str, os.PathLike)):
        return (os.fspath(value),)
    return tuple(map(_to_text, value)) if _is_sequence(value) else value


def _to_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def setting(
    default: T,
    *,
    group: str,
    help: str,  # noqa: A002  # the name that click gives it
    unit: str = "",
    default_text: str = "",
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    check: Bound | None = None,
    permissions: bool = False,
    option: str = "",
    takes_value: bool = False,
    commas: bool = False,
    repeated: bool = False,
    secret: bool = False,
    aliases: tuple[str, ...] = (),
    shared_variable: str = "",
    instead: str = "",
    normalize: Callable[[object], object] | None = None,
) -> T:
    """Return a dataclass field with a `Setting` in its metadata, whose arguments these are.

    permissions: the number is a file's permissions, which are written in octal. option: by default
    the field's name with hyphens. Type checkers see the default, as with `dataclasses.field`.
    """
    declared = Setting(
        group=group,
        help=help,
        unit=unit,
        default_text=default_text,
        minimum=minimum,
        above=above,
        maximum=maximum,
        check=check,
        option=option,
        takes_value=takes_value,
        commas=commas,
        repeated=repeated,
        secret=secret,
        aliases=aliases,
        shared_variable=shared_variable,
        instead=instead,
        normalize=normalize,
        kind=Kind.PERMISSIONS if permissions else Kind.WHOLE_NUMBER,
    )
    return dataclasses.field(default=default, repr=not secret, metadata={_METADATA: declared})


def keyword(default: T, *, help: str) -> T:  # noqa: A002  # as in `setting`
    """Return a dataclass field that is only a keyword in Python, for what no text can express."""
    return dataclasses.field(default=default, metadata={_KEYWORD_HELP: help})


def settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    """Return the settings that a dataclass declares, in order, without those of `keyword`."""
    fields = dataclasses.fields(cls)
    return tuple(_complete(field) for field in fields if _METADATA in field.metadata)


def _keywords_of(cls: type[Any]) -> dict[str, str]:
    """Return the fields that are only keywords, each with its help."""
    metadata = {field.name: field.metadata for field in dataclasses.fields(cls)}
    return {name: one[_KEYWORD_HELP] for name, one in metadata.items() if _KEYWORD_HELP in one}


def _complete(field: dataclasses.Field[Any]) -> Setting:
    """Return the setting of a field, with what the field itself says."""
    declared: Setting = field.metadata[_METADATA]
    annotation, is_optional = _without_none(field.type)
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    assert choices or annotation in _KINDS, f"{annotation} is not a type that a setting can have"
    kind = Kind.TEXT if choices else _KINDS[annotation]
    return dataclasses.replace(
        declared,
        name=field.name,
        kind=declared.kind if declared.kind is Kind.PERMISSIONS else kind,
        default=field.default,
        choices=choices,
        is_optional=is_optional,
        option=declared.option or option_of(field.name),
    )


def _without_none(annotation: object) -> tuple[object, bool]:
    if get_origin(annotation) not in (Union, UnionType):  # Union with a Literal in it
        return annotation, False
    members = [member for member in get_args(annotation) if member is not NoneType]
    return functools.reduce(operator.or_, members), NoneType in get_args(annotation)


def option_of(name: str) -> str:
    """Return the option that a name has on the command line."""
    return "--" + name.replace("_", "-")


def name_of(option: str) -> str:
    """Return the name in Python of an option, or of a key that is written with hyphens."""
    return option.removeprefix("--").replace("-", "_")


def variable_of(name: str) -> str:
    """Return the environment variable of an option or a name: WSGATE_PORT of --port."""
    return "WSGATE_" + name.lstrip("-").replace("-", "_").upper()


def parse_pair(text: str) -> tuple[str, str]:
    """Return the pair that is written as `NAME:VALUE`. Raises ConfigError for another text."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError(f"{text!r} is not of the form NAME:VALUE")
    return name.strip(), value.strip()


# -- types -----------------------------------------------------------------------------------------


def _is_whole_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _are_texts(value: Any) -> TypeGuard[Sequence[str]]:
    return _is_sequence(value) and all(isinstance(member, str) for member in value)


def _are_pairs(value: Any) -> bool:
    return _is_sequence(value) and all(
        _are_texts(member) and len(member) == 2  # noqa: PLR2004  # a pair
        for member in value
    )


_MATCHES: dict[Kind, Callable[[Any], bool]] = {
    Kind.WHOLE_NUMBER: _is_whole_number,
    Kind.PERMISSIONS: _is_whole_number,
    Kind.NUMBER: lambda value: _is_whole_number(value) or isinstance(value, float),
    Kind.SWITCH: lambda value: isinstance(value, bool),
    Kind.TEXT: lambda value: isinstance(value, str),
    Kind.PATH: lambda value: isinstance(value, str),  # converted before
    Kind.TEXTS: _are_texts,
    Kind.PAIRS: _are_pairs,
}


def _not_given(value: object) -> str:
    """Return the end of an error, which shows the value if that is short and no list of secrets."""
    if value is None or isinstance(value, (str, bytes, int, float)):
        shown = repr(value)
        return f", not {shown}" if len(shown) <= _LONGEST_SHOWN else ""
    return "" if _is_sequence(value) else f", not a {type(value).__name__}"


_LONGEST_SHOWN = 60


# -- a class of settings ---------------------------------------------------------------------------


def accept_aliases(cls: type[T]) -> type[T]:
    """Let the constructor of a dataclass of settings take aliases and path objects.

    Its docstring gets the list of the settings.

    An alias that is None counts as not given: frameworks pass on uvicorn's default. The constructor
    raises ConfigError for a name that is no setting.
    """
    settings = settings_of(cls)
    converters = {one.name: one.convert for one in settings}
    keywords = _keywords_of(cls)
    names = names_of(settings) | {name: name for name in keywords}
    construct = cls.__init__

    @functools.wraps(construct)
    def __init__(self: T, **options: Any) -> None:  # noqa: N807  # it takes the place of that
        given = _by_name(options, names)
        for name in given.keys() & converters.keys():
            given[name] = converters[name](given[name])
        construct(self, **given)

    cls.__init__ = __init__  # type: ignore[assignment, method-assign]  # takes the same, and aliases
    helps = {one.name: one.help for one in settings} | keywords
    listed = "\n".join(f"    {name}: {text}" for name, text in helps.items())
    cls.__doc__ = f"{cls.__doc__ or ''}\n\n{listed}\n"
    return cls


def accept_answered(answered: type[Any]) -> Callable[[type[T]], type[T]]:
    """Let the constructor of a class of settings take the names of another one as well.

    Their values are validated and have no other effect: the errors say what to use instead.
    """
    settings = settings_of(answered)
    declared = {one.name: one for one in settings}

    def decorate(cls: type[T]) -> type[T]:
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: T, **options: Any) -> None:  # noqa: N807  # it takes the place of that
            for name, one in declared.items():
                if name in options:
                    one.validate(one.convert(options.pop(name)))
            construct(self, **options)

        cls.__init__ = __init__  # type: ignore[assignment, method-assign]  # takes the same, and more
        return cls

    return decorate


def refuse_names(reasons: Mapping[str, str], *, unnamed: str) -> Callable[[type[T]], type[T]]:
    """Let the constructor of a class of settings refuse some names, each with a reason.

    They belong elsewhere: a similar name, which the error would suggest, has nothing to do with it.
    unnamed: the reason for an argument without a name.
    """

    def decorate(cls: type[T]) -> type[T]:
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: T, *others: Any, **options: Any) -> None:  # noqa: N807  # as above
            if others:
                raise ConfigError(unnamed)
            for name in options.keys() & reasons.keys():
                raise ConfigError(reasons[name])
            construct(self, **options)

        cls.__init__ = __init__  # type: ignore[assignment, method-assign]  # takes the same
        return cls

    return decorate


def names_of(settings: Iterable[Setting]) -> dict[str, str]:
    """Return all names that settings have in Python, each with the name of its setting."""
    return {alias: one.name for one in settings for alias in (*one.aliases, one.name)}


def _by_name(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return options under the names of their settings; an alias goes before the name."""
    for option in options:
        if option not in names:
            raise ConfigError(f"there is no setting {option}{suggestion(option, names)}")
    aliases = {
        names[option]: value
        for option, value in options.items()
        if option != names[option] and value is not None
    }
    return {option: value for option, value in options.items() if option == names[option]} | aliases


def suggestion(name: str, names: Mapping[str, str]) -> str:
    """Return the end of an error that suggests another name for an unknown one, or nothing.

    names: all names, each with what to suggest for it.
    """
    closest = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {names[closest[0]]}?" if closest else ""
