from __future__ import annotations

import random

import pytest

from booking_mlops.core.bookings.header import DATE, SEPARATORS, find_header, header_of_names
from booking_mlops.core.bookings.schema import CSV_COLUMNS, CSV_HEADER
from booking_mlops.errors import DataQualityError

KAGGLE = (
    "Booking_ID,no_of_adults,no_of_children,no_of_weekend_nights,no_of_week_nights,type_of_meal_plan,"
    "required_car_parking_space,room_type_reserved,lead_time,arrival_year,arrival_month,arrival_date,market_segment_type,"
    "repeated_guest,no_of_previous_cancellations,no_of_previous_bookings_not_canceled,avg_price_per_room,"
    "no_of_special_requests,booking_status"
)


@pytest.mark.parametrize("separator", SEPARATORS)
def test_columns_are_found_in_any_order_case_and_spelling(separator: str) -> None:
    spellings = [
        str.upper, str.title, lambda name: f"  {name} ", lambda name: name.replace(" ", "_"), lambda name: f'"{name}"',
    ]  # fmt: skip
    names = [spellings[place % len(spellings)](name) for place, name in enumerate(CSV_HEADER)]
    order = random.Random(3).sample(range(len(names)), len(names))
    found = find_header(["\ufeff" + separator.join(names[place] for place in order) + "\r"], "f", {}, None)
    assert found.separator == separator
    assert [found.places[column.name] for column in CSV_COLUMNS] == [order.index(n) for n in range(len(names))]
    assert not found.extra


def test_the_names_of_the_public_file_are_known_and_three_columns_make_the_date() -> None:
    found = find_header([KAGGLE], "f", {}, None)
    assert {found.names[found.places[part]] for part in ("year", "month", "day")} == {
        "arrival_year", "arrival_month", "arrival_date",
    }  # fmt: skip
    assert DATE not in found.places
    assert found.label(DATE) == "arrival_year, arrival_month, arrival_date"
    # Alone the last one is the whole date.
    alone = find_header([KAGGLE.replace("arrival_year,arrival_month,", "")], "f", {}, None)
    assert alone.label(DATE) == "arrival_date"


def test_other_names_are_mapped_and_what_is_unknown_is_left() -> None:
    line = ",".join([",Storno?", *CSV_HEADER]).replace("lead time", "Vorlauf (Tage)").replace(",repeated,", ",Stamm,")
    found = find_header([line], "f", {"lead_time": "vorlauf_tage", "repeated": "Stamm"}, None)
    assert found.extra == ("(no name)", "Storno?")
    assert found.label("lead_time") == "Vorlauf (Tage)"


def test_excels_line_about_the_separator_may_stand_above() -> None:
    found = find_header(["sep=;", ";".join(CSV_HEADER)], "f", {}, None)
    assert (found.line, found.separator) == (2, ";")


def test_a_separator_of_ones_own() -> None:
    assert find_header(["~".join(CSV_HEADER)], "f", {}, "~").separator == "~"


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        (["Export of 2018-12-31", ",".join(CSV_HEADER)], {}, '"Export of 2018-12-31"; the header is on line 2: remove'),
        (["1,2,3"], {}, 'f: line 1 is not the header of the bookings: "1,2,3"'),
        (["\x01\x02" + "x" * 99], {}, f'"??{"x" * 58}…"'),
        ([",".join(CSV_HEADER[:-1])], {}, "missing booking status; name it with columns"),
        ([",".join(CSV_HEADER).replace("lead time", "led time")], {}, "missing lead time (nearest there: 'led time')"),
        ([",".join([*CSV_HEADER, "Lead_Time"])], {}, "'lead time' and 'Lead_Time' are both lead_time: say which"),
        ([",".join(CSV_HEADER)], {"lead_time": "lead tme"}, "no column 'lead tme', which columns.lead_time names"),
        ([""], {}, "line 1 is not the header"),
    ],
)
def test_a_line_that_is_no_header_is_refused_and_the_difference_said(
    lines: list[str], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(DataQualityError, match="f: ") as caught:
        find_header(lines, "f", columns, None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_has_names_and_no_line() -> None:
    with pytest.raises(DataQualityError, match="f: not a table of bookings: missing Booking_ID"):
        header_of_names(["a", "b"], "f", {})
    assert header_of_names([column.name for column in CSV_COLUMNS], "f", {}).line == 0
