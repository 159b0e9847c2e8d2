"""What a user sees when something is wrong: one clear line and an exit code."""

USAGE = 2  # the command, the recipe or the input is wrong
FAILED = 1  # the machine, the store or the training failed, or something was left out
INTERRUPTED = 130  # Ctrl-C or a polite kill


class UserError(Exception):
    """A mistake or a fault that one line explains: what, where, what would be right.

    `code` is the exit code: `USAGE` (2) for what the user can put right in a recipe or a call,
    `FAILED` (1) for the rest.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code
