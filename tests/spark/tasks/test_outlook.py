"""The outlook: what it says of the dates ahead, where it says it, and when it has nothing to say."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from booking_mlops.core.bookings.tables import OUTLOOK
from booking_mlops.core.model.correction import fit_correction
from booking_mlops.errors import MissingTable
from booking_mlops.services.backtest import read_backtest
from booking_mlops.tasks.outlook import Outlook
from tests.conftest import Environment
from tests.spark.conftest import LATER, SEEN, Trained, broken, make_task, opened, registry_of


def of_day(spark: Any, environment: Environment, table: str, day: Any, column: str) -> pd.DataFrame:
    frame: pd.DataFrame = spark.table(environment.table(table)).where(f"{column} = DATE'{day}'").toPandas()
    return frame


def commits(spark: Any, environment: Environment) -> int:
    return int(spark.sql(f"DESCRIBE HISTORY {environment.table('outlook')}").count())


def test_each_date_ahead_has_what_to_expect_of_its_open_bookings(spark: Any, lived: Trained) -> None:
    environment = lived.environment
    assert spark.table(environment.table("outlook")).columns == list(OUTLOOK.column_names)
    rows = of_day(spark, environment, "outlook", SEEN, "as_of").sort_values("arrival_date")
    scores = of_day(spark, environment, "predictions", SEEN, "scored_on")
    assert scores["was_open"].all()
    features = spark.table(environment.table("features")).toPandas()
    ahead = scores.merge(features, on="booking_id")
    registry = registry_of(environment)
    backtest = read_backtest(registry, registry.require_champion())
    assert len(backtest.days) >= 2
    ahead["p"] = backtest.correction.apply(ahead["cancellation_probability"])
    ahead["nights"] = ahead["number_of_weekend_nights"] + ahead["number_of_week_nights"]
    ahead["lost"] = ahead["p"] * ahead["nights"] * ahead["average_price"]
    by_date = ahead.groupby("arrival_date")
    assert rows["arrival_date"].tolist() == sorted(by_date.groups)
    assert rows["open_bookings"].tolist() == by_date.size().tolist()
    assert rows["nights"].tolist() == by_date["nights"].sum().tolist()
    sums = {
        "expected_cancellations": "p",
        "uncorrected_cancellations": "cancellation_probability",
        "value_at_stake": "lost",
    }
    for column, own in sums.items():
        assert rows[column].tolist() == pytest.approx(by_date[own].sum().tolist())
    assert (rows["lower_cancellations"] <= rows["expected_cancellations"].round()).all()
    assert (rows["upper_cancellations"] <= rows["open_bookings"]).all()
    assert rows["overbook_by"].isna().all()
    result = lived.results[f"outlook {SEEN}"]
    assert sum(one.open_bookings for one in result.dates) == len(ahead)
    assert f"{len(ahead):,} open bookings" in str(result.summary())


def test_the_page_shows_the_dates_the_first_bookings_and_how_earlier_outlooks_did(spark: Any, lived: Trained) -> None:
    environment = lived.environment
    registry = registry_of(environment)
    first, second = (lived.results[f"outlook {day}"] for day in (SEEN, LATER))
    pages = [registry.read_file(*one.page) for one in (first, second)]
    assert "No date that an earlier outlook spoke of has passed" in pages[0]
    labels = spark.table(environment.table("labels")).where(f"event_date < DATE'{LATER}'").toPandas()
    scores = of_day(spark, environment, "predictions", SEEN, "scored_on").merge(labels, on="booking_id")
    (line,) = re.findall(r'data-label="Actual">([\d,]+)<', pages[1].split(">all<")[1].split("</tr>")[0])
    assert int(line.replace(",", "")) == scores["is_canceled"].sum()
    for page in pages:
        assert page.count("data:image/png;base64") >= 2
        assert not re.search(r'(src|href)="http', page)
        assert "What raises it" in page
    # The booking named first has the most at stake.
    ahead = of_day(spark, environment, "predictions", LATER, "scored_on").merge(
        spark.table(environment.table("features")).toPandas(), on="booking_id"
    )
    # By now there are scores with outcomes, and they take the backtest's place.
    assert "one of 33 % becomes" in pages[0]
    assert "Of the bookings scored while they were open in the last 30 days that have" in pages[1]
    correction = fit_correction(scores["cancellation_probability"], scores["is_canceled"])
    ahead["p"] = correction.apply(ahead["cancellation_probability"])
    rows = of_day(spark, environment, "outlook", LATER, "as_of")
    assert rows["expected_cancellations"].sum() == pytest.approx(ahead["p"].sum(), rel=0.01)
    ahead["stake"] = ahead["p"] * ahead["stay_price"]
    named = re.findall(r'<td class="lead">(INN\d+)</td>', pages[1])
    assert len(set(named) & set(ahead.nlargest(20, "stake")["booking_id"])) >= 18


def test_a_day_made_again_is_replaced_only_when_something_has_changed(spark: Any, lived: Trained) -> None:
    environment = lived.environment
    day = f"env.as_of={LATER}"
    with broken(spark, environment, opened(LATER), "DELETE FROM {outlook} WHERE false"):
        before = commits(spark, environment)
        again = make_task(Outlook, spark, environment, day).run()
        assert (again.written, again.run_id) == (False, lived.results[f"outlook {LATER}"].run_id)
        assert "up to date, nothing written" in str(again.summary())
        assert commits(spark, environment) == before
        gone = of_day(spark, environment, "predictions", LATER, "scored_on")["booking_id"].iloc[0]
        table = environment.table("bookings")
        spark.sql(f"UPDATE {table} SET booking_status = 'Canceled' WHERE booking_id = '{gone}'")
        fewer = make_task(Outlook, spark, environment, day, "overbooking={capacity: 60, walk_cost: 200}").run()
        rows = of_day(spark, environment, "outlook", LATER, "as_of")
        assert fewer.written
        assert rows["arrival_date"].is_unique
        assert rows["open_bookings"].sum() == sum(one.open_bookings for one in again.dates) - 1
        assert (rows["overbook_by"] > 0).any()
        assert (rows["rooms_booked"] >= rows["open_bookings"]).all()
        assert "Overbook by" in registry_of(environment).read_file(*fewer.page)
        # Of the other day nothing is lost.
        assert len(of_day(spark, environment, "outlook", SEEN, "as_of")) > 80
        # When all have ended, nothing is ahead, and the day says nothing any more.
        spark.sql(f"UPDATE {table} SET booking_status = 'Not_Canceled'")
        ended = make_task(Outlook, spark, environment, day).run()
        assert (ended.dates, ended.page) == ((), None)
        assert of_day(spark, environment, "outlook", LATER, "as_of").empty


def test_history_alone_has_no_outlook_and_that_is_no_failure(spark: Any, trained: Trained) -> None:
    result = make_task(Outlook, spark, trained.environment).run()
    assert "no booking is open and arrives on 2026-03-01 or later" in str(result.summary())
    assert not spark.catalog.tableExists(trained.environment.table("outlook"))


def test_without_scores_of_the_day_it_says_what_to_run(spark: Any, lived: Trained) -> None:
    between = "env.as_of=2018-09-15"
    with (
        broken(spark, lived.environment, opened(SEEN)),
        pytest.raises(MissingTable, match=r"has no scores of 2018-09-15 for the [\d,]+ open bookings; run model-inf"),
    ):
        make_task(Outlook, spark, lived.environment, between).run()


def test_a_version_without_a_backtest_is_taken_at_its_word(spark: Any, lived: Trained) -> None:
    environment, registry = lived.environment, registry_of(lived.environment)
    version = registry.require_champion()
    days = version.tags["backtest_days"]
    registry.client().delete_model_version_tag(environment.model_name, str(version.number), "backtest_days")
    try:
        with broken(spark, environment, opened(SEEN), "DELETE FROM {outlook} WHERE false"):
            result = make_task(Outlook, spark, environment, f"env.as_of={SEEN}").run()
        assert all(one.expected == pytest.approx(one.uncorrected) for one in result.dates)
        assert "the probabilities are the model" in registry.read_file(*result.page)
    finally:
        registry.client().set_model_version_tag(environment.model_name, str(version.number), "backtest_days", days)
