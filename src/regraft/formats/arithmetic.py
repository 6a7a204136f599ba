"""What an operation of a map and a number computes, in words that other frameworks share."""


def with_number(word: str, number: float, *, is_first: bool) -> list[float] | str | None:
    """[factor, summand] of the map, or a text where it is not linear; None where frameworks share no word for it.

    word      "add", "sub", "mul", "div" or "pow"
    is_first  whether the number stands before the map, as in 1 - x
    """
    maps = {"add": [1.0, number], "mul": [number, 0.0], "sub": [-1.0, number] if is_first else [1.0, -number]}
    texts = {"div": f"{number:g} over it"} if is_first else {"pow": f"power {number:g}"}
    if number and not is_first:
        maps["div"] = [1 / number, 0.0]
    return maps.get(word) or texts.get(word)
