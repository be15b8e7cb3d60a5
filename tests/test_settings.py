"""How settings are declared, on a class that is not Config, and what each declaration must have."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from wsgate.config import SETTINGS
from wsgate.errors import ConfigError
from wsgate.settings import (
    Bound,
    Kind,
    Setting,
    accept_aliases,
    accept_answered,
    keyword,
    name_of,
    option_of,
    parse_pair,
    setting,
    settings_of,
    variable_of,
)
from wsgate.supervision import SUPERVISION_SETTINGS


@accept_aliases
@dataclass(frozen=True, slots=True, kw_only=True)
class Oven:
    """An oven."""

    heat: int = setting(
        200,
        group="Heat",
        help="Degrees.",
        unit="degrees",
        minimum=50,
        maximum=250,
        aliases=("hot",),
    )
    minutes: float = setting(30.0, group="Time", help="Minutes to bake.", above=0, maximum=90)
    rest: float | None = setting(None, group="Time", help="Minutes to rest.", minimum=0)
    tray: Literal["top", "middle"] = setting("top", group="Place", help="Where it is.")
    fan: bool = setting(False, group="Heat", help="Turn `--fan` on.")
    light: bool = setting(True, group="Place", help="Light it.", takes_value=True)
    mode: int | None = setting(None, group="Place", help="Of the door.", permissions=True)
    cake: str = setting(
        "plain", group="Place", help="Kind.", check=Bound("lower-case", str.islower)
    )
    layers: Sequence[str] = setting((), group="Place", help="From below.", option="--layer")
    shelves: Sequence[str] = setting((), group="Place", help="Of a shop.", repeated=True)
    notes: Sequence[tuple[str, str]] = setting((), group="Place", help="On it.")
    book: str | os.PathLike[str] = setting("book", group="Place", help="Of recipes.")
    log: str | os.PathLike[str] | None = setting(None, group="Place", help="What was baked.")


BY_NAME = {one.name: one for one in settings_of(Oven)}


def test_settings_are_in_the_order_of_the_fields() -> None:
    assert list(BY_NAME) == [
        *("heat", "minutes", "rest", "tray", "fan"),
        *("light", "mode", "cake", "layers", "shelves", "notes", "book", "log"),
    ]


def test_a_field_gives_its_setting_a_kind() -> None:
    assert [one.kind for one in BY_NAME.values()] == [
        *(Kind.WHOLE_NUMBER, Kind.NUMBER, Kind.NUMBER, Kind.TEXT, Kind.SWITCH),
        *(Kind.SWITCH, Kind.PERMISSIONS, Kind.TEXT, Kind.TEXTS, Kind.TEXTS, Kind.PAIRS),
        *(Kind.PATH, Kind.PATH),
    ]


def test_a_field_gives_its_setting_default_choices_and_none() -> None:
    assert [one.default for one in BY_NAME.values()] == [
        *(200, 30.0, None, "top", False, True, None, "plain", (), (), (), "book", None)
    ]
    assert [name for name, one in BY_NAME.items() if one.is_optional] == ["rest", "mode", "log"]
    assert [one.choices for one in BY_NAME.values() if one.choices] == [("top", "middle")]


def test_a_switch_without_a_value_has_two_forms() -> None:
    assert [name for name, one in BY_NAME.items() if one.is_switch] == ["fan"]


def test_every_name_is_an_option_and_a_variable() -> None:
    assert BY_NAME["heat"].options == ("--heat", "--hot")
    assert BY_NAME["heat"].variables == ("WSGATE_HEAT", "WSGATE_HOT")
    assert BY_NAME["layers"].options == ("--layer",)
    assert BY_NAME["layers"].variables == ("WSGATE_LAYER", "WSGATE_LAYERS")
    assert option_of("ws_max_size") == "--ws-max-size"
    assert BY_NAME["heat"].keys == ("heat", "hot")
    assert BY_NAME["layers"].keys == ("layers", "layer")
    assert name_of("--ws-max-size") == name_of("ws-max-size") == "ws_max_size"
    assert variable_of("--ws-max-size") == variable_of("ws_max_size") == "WSGATE_WS_MAX_SIZE"


def test_help_can_be_read_without_its_markdown() -> None:
    assert BY_NAME["fan"].plain_help == "Turn --fan on."


def test_bounds_are_sentences() -> None:
    wanted = {name: [bound.wanted for bound in one.bounds] for name, one in BY_NAME.items()}
    assert {name: texts for name, texts in wanted.items() if texts} == {
        "heat": ["50 to 250"],
        "minutes": ["greater than 0", "at most 90"],
        "rest": ["0 or greater"],
        "tray": ["one of top, middle"],
        "cake": ["lower-case"],
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("heat", 50), ("heat", 250), ("minutes", 90), ("minutes", 0.001)),
        *(("rest", 0), ("rest", None), ("tray", "middle"), ("cake", "small")),
        *(("layers", []), ("layers", ["a"]), ("notes", [("a", "b")]), ("mode", 0o600)),
    ],
)
def test_a_value_within_its_bounds_is_valid(name: str, value: object) -> None:
    BY_NAME[name].validate(value)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("heat", 49, "--heat must be 50 to 250"),
        ("heat", 251, "--heat must be 50 to 250"),
        ("heat", "200", "--heat must be a whole number, not '200'"),
        ("minutes", 0, "--minutes must be greater than 0"),
        ("minutes", 90.5, "--minutes must be at most 90"),
        ("rest", -1, "--rest must be 0 or greater"),
        ("tray", "bottom", "--tray must be one of top, middle"),
        ("cake", "LARGE", "--cake must be lower-case"),
        ("cake", 1, "--cake must be a string, not 1"),  # before the check, which takes strings
        ("layers", 1, "--layer must be a string or a list of strings, not 1"),
    ],
)
def test_another_value_is_not(name: str, value: object, line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        BY_NAME[name].validate(value)
    assert (str(raised.value), raised.value.setting) == (line, name)


def test_a_class_of_settings_takes_aliases() -> None:
    oven: Any = Oven
    assert oven(hot=100).heat == oven(heat=100).heat == oven(heat=60, hot=100).heat == 100
    assert oven(hot=None) == oven()
    with pytest.raises(ConfigError, match=r"^there is no setting heet; did you mean heat\?$"):
        oven(heet=1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a", ("a",)),
        (Path("a"), ("a",)),
        (["a", Path("b")], ("a", "b")),
        ((), ()),
        (None, ()),  # what frameworks pass on as the default of uvicorn
    ],
)
def test_a_repeated_setting_is_kept_as_a_tuple(given: object, kept: tuple[str, ...]) -> None:
    oven: Any = Oven
    assert oven(shelves=given).shelves == kept


@pytest.mark.parametrize("given", [1, [1], b"a", {"a": 1}])
def test_a_repeated_setting_has_strings_only(given: object) -> None:
    with pytest.raises(ConfigError, match=r"^--shelves must be a string or a list of strings"):
        BY_NAME["shelves"].validate(BY_NAME["shelves"].convert(given))


def test_a_class_of_settings_is_documented() -> None:
    assert str(Oven.__doc__).startswith("An oven.\n\n    heat: Degrees.\n    minutes: Minutes ")


def test_a_class_without_documentation_gets_it() -> None:
    class Bare:
        """Python -OO leaves out this text."""

        __dataclass_fields__: dict[str, Any] = {}  # noqa: RUF012  # as a dataclass has them

    Bare.__doc__ = None
    assert accept_aliases(Bare).__doc__ is not None


def test_only_none_may_be_another_type_of_a_field() -> None:
    @dataclass
    class Odd:
        both: int | str = setting(1, group="A", help="B.")

    with pytest.raises(AssertionError, match="is not a type that a setting can have"):
        settings_of(Odd)


# -- the declarations of the server ----------------------------------------------------------------


ALL_SETTINGS = (*SETTINGS, *SUPERVISION_SETTINGS)


def test_groups_are_not_interleaved() -> None:
    groups = [one.group for one in ALL_SETTINGS]
    starts = [
        group for before, group in zip(["", *groups], groups, strict=False) if before != group
    ]
    assert len(starts) == len(set(starts))


def test_no_name_is_used_twice() -> None:
    for names in (
        [name for one in ALL_SETTINGS for name in one.options],
        [name for one in ALL_SETTINGS for name in one.variables],
        [name for one in ALL_SETTINGS for name in (one.name, *one.aliases)],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("one", ALL_SETTINGS, ids=lambda one: one.name)
def test_a_declaration_is_complete(one: Setting) -> None:
    one.validate(one.default)
    assert one.help[0].isupper()
    assert one.help.endswith(".")
    assert one.help.count("`") % 2 == 0
    if "Seconds" in one.help:
        assert one.unit == "seconds"
    if one.is_optional and one.kind not in (Kind.TEXT, Kind.PATH) and one.name != "fd":
        assert one.default_text, "default_text is missing for None"


# -- answers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """What an oven without a fire is asked for."""

    wood: int | None = setting(
        None, group="", help="It is electric.", check=Bound("0: it is electric", lambda n: n == 0)
    )


@accept_answered(Fire)
@accept_aliases
@dataclass(frozen=True, slots=True, kw_only=True)
class Electric:
    """An oven without a fire."""

    heat: int = setting(200, group="Heat", help="Degrees.", normalize=lambda heat: heat or 100)


def electric(**options: Any) -> Electric:
    return Electric(**options)


def test_answered_names_are_taken_and_have_no_effect() -> None:
    assert electric(wood=0) == electric(wood=None) == Electric()
    assert electric(wood=0, heat=1).heat == 1


@pytest.mark.parametrize(
    ("wood", "error"),
    [(1, "--wood must be 0: it is electric"), ("a", "--wood must be a whole number, not 'a'")],
)
def test_another_value_is_answered(wood: Any, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        electric(wood=wood)
    assert str(raised.value) == error
    assert raised.value.setting == "wood"


@accept_aliases
@dataclass(frozen=True, kw_only=True)
class Kettle:
    heat: int = setting(1, group="Heat", help="How hot.", aliases=("power",))
    whistle: object = keyword(None, help="Function to call.")


def test_a_keyword_is_no_setting() -> None:
    assert [one.name for one in settings_of(Kettle)] == ["heat"]
    assert Kettle(power=2, whistle=print) == Kettle(heat=2, whistle=print)  # type: ignore[call-arg]  # an alias
    assert "    whistle: Function to call.\n" in str(Kettle.__doc__)
    with pytest.raises(ConfigError, match="did you mean whistle"):
        Kettle(whistel=print)  # type: ignore[call-arg]  # that is the test


def test_an_unknown_name_is_still_refused() -> None:
    with pytest.raises(ConfigError, match=r"^there is no setting coal$"):
        electric(coal=1)


def test_a_value_of_python_can_be_normalized() -> None:
    assert electric(heat=None).heat == 100


@pytest.mark.parametrize(
    ("text", "pair"), [("a:b", ("a", "b")), (" a : b:c ", ("a", "b:c")), ("a:", ("a", ""))]
)
def test_a_pair_has_a_colon(text: str, pair: tuple[str, str]) -> None:
    assert parse_pair(text) == pair


def test_a_pair_without_a_colon_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^'a' is not of the form NAME:VALUE$"):
        parse_pair("a")
