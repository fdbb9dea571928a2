"""The exception for bad input, whose message is for the user."""


class Refusal(ValueError):
    """Bad input, refused before anything is changed.

    The message is one line that names the wrong value and what is accepted. The command line prints it and exits with
    code 2. Callers of the library can catch it as a ValueError.
    """
