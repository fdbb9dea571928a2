"""Durations in words. Never imports torch."""


def duration(seconds: float | None) -> str:
    """Seconds in the unit that a person would use, as in "45 seconds" or "3.2 hours"; "not known" if None."""
    if seconds is None:
        return "not known"
    for unit, size in (("years", 365 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} seconds"
