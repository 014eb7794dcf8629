"""What is said when the user's data or arguments are wrong.

Every message is one line: `<where>: <what came>; <what is allowed>`.
"""


class DataError(ValueError):
    """The corpus, its sources or the arguments are wrong, and the user can mend it."""


def data_error(where: object, came: str, allowed: str) -> DataError:
    """The one-line DataError: where it happened, what came, what is allowed or would do."""
    message = f"{where}: {came}; {allowed}"
    return DataError("".join(each if each.isprintable() else repr(each)[1:-1] for each in message))
