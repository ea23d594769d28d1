"""Check the schedules of jobs: a Quartz cron expression and a time zone."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local_workspace.errors import invalid
from local_workspace.store import Document

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# The lowest and the highest value of each field, and the names that stand for its values.
_FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    *((0, 59, ()), (0, 59, ()), (0, 23, ()), (1, 31, ())),
    *((1, 12, _MONTHS), (1, 7, _DAYS), (1970, 2099, ())),
)
_DAY_OF_MONTH, _DAY_OF_WEEK = 3, 5
_ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)?(?:/(?P<step>\d+))?")
# The last day, the last but some, the weekday nearest to one; the last such day of the week, the first to fifth one.
_SPECIAL = {
    _DAY_OF_MONTH: re.compile(r"L(-([1-9]|[12]\d|30))?|LW|([1-9]|[12]\d|3[01])W"),
    _DAY_OF_WEEK: re.compile(rf"L|([1-7]|{'|'.join(_DAYS)})(L|#[1-5])"),
}


def check_schedule(schedule: Document) -> None:
    """Refuse a schedule that would never start a job as it was meant to.

    Raises: ApiError 400.
    """
    for name in ("quartz_cron_expression", "timezone_id"):
        if not schedule.get(name):
            raise invalid(f"Missing required field: settings.schedule.{name}")
    expression, zone = str(schedule["quartz_cron_expression"]), str(schedule["timezone_id"])
    if not is_quartz(expression):
        raise invalid(
            f"Invalid quartz_cron_expression: {expression}. Databricks uses Quartz cron syntax, which is different "
            "from the standard cron syntax. See "
            "http://www.quartz-scheduler.org/documentation/quartz-2.1.x/tutorials/crontrigger.html for more details."
        )
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise invalid(f"Invalid timezone_id: {zone}. It must be a Java timezone id, such as Europe/Berlin.") from None
    if schedule.get("pause_status", "UNPAUSED") not in ("PAUSED", "UNPAUSED"):
        raise invalid(f"Invalid pause_status: {schedule['pause_status']}. It must be PAUSED or UNPAUSED.")


def is_quartz(expression: str) -> bool:
    """Return whether a text is a Quartz cron expression: six or seven fields, of which one day field is `?`."""
    fields = expression.upper().split()
    if len(fields) not in (6, 7):
        return False
    if [fields[_DAY_OF_MONTH], fields[_DAY_OF_WEEK]].count("?") != 1:
        return False
    return all(
        (field == "?" and position in _SPECIAL) or all(_is_item(item, position) for item in field.split(","))
        for position, field in enumerate(fields)
    )


def _is_item(item: str, position: int) -> bool:
    if position in _SPECIAL and _SPECIAL[position].fullmatch(item):
        return True
    found = _ITEM.fullmatch(item)
    if found is None or not item:
        return False
    values = [_value(found[name], position) for name in ("first", "last") if found[name]]
    return None not in values and found["step"] != "0"


def _value(text: str, position: int) -> int | None:
    """Return the number of a field's value, or None for one that the field does not have."""
    lowest, highest, names = _FIELDS[position]
    if text in names:
        return lowest + names.index(text)
    return int(text) if text.isdigit() and lowest <= int(text) <= highest else None
