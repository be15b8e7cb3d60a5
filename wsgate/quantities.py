"""Numbers of things as text, for people: singular and plural."""


def count(number: int, thing: str) -> str:
    """Return a number of things: `1 worker`, `2 workers`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
