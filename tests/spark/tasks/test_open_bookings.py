"""Bookings whose outcome is not known yet: how they are read, and what becomes of them in each table."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.bookings.tables import PREDICTIONS
from booking_mlops.core.model.families.random_forest import RandomForest
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.errors import BrokenPromise
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.integration_test import IntegrationTest
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_monitor import ModelMonitor
from booking_mlops.tasks.model_train import ModelTrain
from booking_mlops.tasks.setup_data import SetupData
from tests.conftest import Cli, Environment, write_bookings
from tests.spark.conftest import Trained, broken, copy_features, make_task, registry_of
from tests.spark.tasks.test_model_train import QUICK

pytestmark = pytest.mark.usefixtures("spark")


def restated(lines: list[str], **words: str) -> list[str]:
    """The lines of a file with other words for `Canceled` and `Not_Canceled`."""
    return [lines[0], *(",".join([*line.split(",")[:-1], words[line.split(",")[-1]]]) for line in lines[1:])]


def states(spark: Any, environment: Environment) -> dict[str, int]:
    """How many bookings there are of each status."""
    rows = spark.table(environment.table("bookings")).groupBy("booking_status").count().collect()
    return {row["booking_status"]: row["count"] for row in rows}


class TestReading:
    def test_each_spelling_is_one_of_three_states_and_open_bookings_are_no_bad_rows(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = write_bookings(csv, 40)
        words = ["No-Show", "CANCELED", "1", "check out", "0", "", "NULL", "NaN", "Booked", "Checked_In", "pending"]
        for place, word in enumerate(words, start=1):
            lines[place] = lines[place].rsplit(",", 1)[0] + f",{word}"
        csv.write_text("\n".join(lines), encoding="utf-8")
        result = make_task(SetupData, spark, environment, f"source_csv={csv}", "max_rejected_share=0").run()
        assert (result.bookings, result.rejected) == (40, 0)
        found = {
            row["booking_id"]: row["booking_status"] for row in spark.table(environment.table("bookings")).collect()
        }
        assert [found[line.split(",")[0]] for line in lines[1:12]] == (
            ["Canceled"] * 3 + ["Not_Canceled"] * 2 + ["Open"] * 6
        )
        assert result.states == states(spark, environment)
        assert ", 6 open" in dict(result.summary())["as of"]

    def test_an_unknown_word_is_a_bad_row_that_names_the_nearest(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = write_bookings(csv, 100)
        for place, word in enumerate(["Cancled", "chekout", "Konfirmed", "it's"], start=1):
            lines[place] = lines[place].rsplit(",", 1)[0] + f",{word}"
        csv.write_text("\n".join(lines), encoding="utf-8")
        result = make_task(SetupData, spark, environment, f"source_csv={csv}", "max_rejected_share=0.04").run()
        reasons = {row["source_line"]: row["reason"] for row in
                   spark.table(environment.table("bookings_rejected")).collect()}  # fmt: skip
        assert reasons[2] == 'booking status: "Cancled" is not in status_words; the nearest there is Canceled'
        assert [reasons[line].rsplit(" ", 1)[-1] for line in (3, 4)] == ["Check-Out", "Confirmed"]
        assert '"it\'s" is not in status_words' in reasons[5]
        assert "1 × booking status: is not in status_words; the nearest there is Canceled" in [
            text for _, text in result.summary()
        ]

    def test_words_can_be_configured_and_other_words_make_another_table(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = write_bookings(csv, 60)
        csv.write_text("\n".join(restated(lines, Canceled="Storniert", Not_Canceled="da gewesen")), encoding="utf-8")

        def ingest(kept: str, cancelled: str) -> Any:
            words = f"status_words={{kept: [{kept}], cancelled: [{cancelled}]}}"
            return make_task(SetupData, spark, environment, f"source_csv={csv}", words).run()

        assert ingest("Da-Gewesen", "storniert").written
        before = states(spark, environment)
        assert before["Canceled"] == sum(line.endswith(",Canceled") for line in lines)
        assert not ingest("da gewesen, Da-Gewesen", "STORNIERT").written
        assert ingest("storniert", "Da Gewesen").written
        assert states(spark, environment) == {"Canceled": before["Not_Canceled"], "Not_Canceled": before["Canceled"]}


def arriving(line: str, day: date, lead_time: int) -> str:
    """A line of the file with another arrival and lead time."""
    fields = line.split(",")
    fields[8], fields[15] = str(lead_time), day.isoformat()
    return ",".join(fields)


def recorded(spark: Any, environment: Environment, table: str) -> Any:
    """What the newest commit of a table says of itself."""
    return json.loads(spark.sql(f"DESCRIBE HISTORY {environment.table(table)} LIMIT 1").first()["userMetadata"])


class TestAsOf:
    def test_what_lies_after_it_or_is_too_far_away_is_a_bad_row_until_its_day_has_come(
        self, spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
    ) -> None:
        csv, as_of = tmp_path / "Booking.csv", date(2026, 3, 1)
        lines = write_bookings(csv, 100)
        lines[1:7] = [
            arriving(lines[1], as_of + timedelta(10), 10),
            arriving(lines[2], as_of + timedelta(10), 9),
            arriving(lines[3], as_of + timedelta(730), 800),
            arriving(lines[4], as_of + timedelta(731), 800),
            arriving(lines[5], as_of - timedelta(7300), 3),
            arriving(lines[6], as_of - timedelta(7301), 3),
        ]
        csv.write_text("\n".join(lines), encoding="utf-8")
        arguments = ["setup-data", "--env-file", environment.file, "--set", f"source_csv={csv}",
                     "--set", "max_rejected_share=0.03"]  # fmt: skip

        def reasons() -> dict[int, str]:
            rows = spark.table(environment.table("bookings_rejected")).collect()
            return {row["source_line"]: row["reason"] for row in rows}

        done = booking_mlops(*arguments, "--as-of", "2026-03-01")
        assert done.code == 0, done.err
        assert reasons() == {
            3: "date of reservation: arrival minus lead time is after as_of",
            5: f'date of reservation: "{as_of + timedelta(731)}" is more than 730 days after as_of',
            7: f'date of reservation: "{as_of - timedelta(7301)}" is more than 7300 days before as_of',
        }
        assert "2026-03-01: " in done.out
        assert recorded(spark, environment, "bookings")["as_of"] == "2026-03-01"
        assert booking_mlops(*arguments, "--as-of", "2026-03-02").code == 0
        assert set(reasons()) == {6, 7}
        assert "nothing written" in booking_mlops(*arguments, "--set", "env.as_of=2026-03-09").out
        assert recorded(spark, environment, "bookings")["as_of"] == "2026-03-02"
        fewer = booking_mlops(*arguments, "--set", "max_days_ahead=5")
        assert "1 × date of reservation: is more than 5 days after as_of" not in fewer.out  # today is later
        refused = booking_mlops(*arguments, "--as-of", "2015-01-01")
        assert refused.code == 1
        assert "rows are bad" in refused.err

    def test_it_is_recorded_with_tables_versions_and_predictions(self, spark: Any, trained: Trained) -> None:
        for table in ("bookings", "features", "labels", "predictions"):
            assert recorded(spark, trained.environment, table)["as_of"] == "2026-03-01"
        days = spark.table(trained.environment.table("predictions")).select("as_of").distinct().collect()
        assert [row["as_of"] for row in days] == [date(2026, 3, 1)]
        registry = registry_of(trained.environment)
        version = registry.require_champion()
        assert version.tags["as_of"] == registry.params(version.run_id)["as_of"] == "2026-03-01"
        assert json.loads(registry.read_file(version.run_id, "config.json"))["env"]["as_of"] == "2026-03-01"

    def test_the_clock_alone_changes_no_table(self, spark: Any, featured: Environment) -> None:
        assert not make_task(FeatureTableCreation, spark, featured, day=2).run().written


AS_OF, LATER = date(2018, 3, 1), date(2018, 10, 1)


def arrival_of(line: str) -> date:
    day = line.split(",")[15]
    month, of_month, year = day.split("/") if "/" in day else (*day.split("-")[1:], day.split("-")[0])
    return date(int(year), int(month), int(of_month))


def booked_by(lines: list[str], as_of: date) -> list[str]:
    """The header, and the lines of the bookings that had been made by that day."""
    made = [line for line in lines[1:] if arrival_of(line) - timedelta(int(line.split(",")[8])) <= as_of]
    return [lines[0], *made]


def as_known_on(lines: list[str], as_of: date) -> list[str]:
    """The lines as they were on that day: of the arrivals ahead, who cancels has done so, and the others are open."""
    return [
        line.replace(",Not_Canceled", ",") if n and arrival_of(line) >= as_of else line for n, line in enumerate(lines)
    ]


def feature_tables(spark: Any, environment: Environment, csv: Path, as_of: date) -> Any:
    day = f"env.as_of={as_of}"
    make_task(SetupData, spark, environment, f"source_csv={csv}", day).run()
    return make_task(FeatureTableCreation, spark, environment, day).run()


class TestLabels:
    def test_only_certain_outcomes_are_labels_and_labels_of_cancellations_ahead_would_mislead(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = booked_by(write_bookings(csv, 6000), AS_OF)
        csv.write_text("\n".join(as_known_on(lines, AS_OF)), encoding="utf-8")
        past = [line for line in lines[1:] if arrival_of(line) < AS_OF]
        result = feature_tables(spark, environment, csv, AS_OF)
        assert (result.rows, result.labelled) == (len(lines) - 1, len(past))
        assert f"{len(lines) - 1 - len(past):,} bookings have no certain outcome as of 2018-03-01" in str(
            result.summary()
        )
        labels = spark.table(environment.table("labels"))
        assert str(labels.selectExpr("max(event_date)").first()[0]) < "2018-03-01"

        known = spark.table(environment.table("bookings")).select("booking_id", "booking_status")
        table = spark.table(environment.table("features")).join(known, "booking_id")
        rows = table.join(labels, "booking_id", "left").toPandas()
        truth = {line.split(",")[0]: line.endswith(",Canceled") for line in lines[1:]}
        rows["cancelled"] = rows["booking_id"].map(truth).astype(int)
        ahead = rows[rows["arrival_date"] >= AS_OF]
        assert ahead["is_canceled"].isna().all()
        certain, stated = rows[rows["is_canceled"].notna()], rows[rows["booking_status"] != "Open"]
        assert certain["is_canceled"].mean() == pytest.approx(certain["cancelled"].mean())
        # Whoever takes each stated outcome for a label finds far more cancellations than there are in the end ...
        assert stated["cancelled"].mean() > rows["cancelled"].mean() + 0.08
        # ... and so does the model, for bookings that are open.
        still_open = ahead[ahead["booking_status"] == "Open"]
        assert len(still_open) > 300

        def expected(train: Any) -> float:
            model = RandomForest(n_estimators=40).fit(
                as_model_input(train, DEFAULT_FEATURES), train["cancelled"].to_numpy()
            )
            return float(cancellation_probability(model, as_model_input(ahead, DEFAULT_FEATURES)).mean())

        actual = ahead["cancelled"].mean()
        assert abs(expected(certain) - actual) < 0.08
        assert expected(stated) > actual + 0.08


class TestScope:
    @pytest.fixture(scope="class")
    @staticmethod
    def half_open(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Path) -> Any:
        """An environment with a champion, in which 30 bookings are open and 20 of these arrive from LATER on.

        Its predictions are of an earlier release, without the day the data stood for and who was open.
        """
        environment = copy_features(spark, trained, tmp_path_factory.mktemp("half_open"), lake)
        make_task(ModelTrain, spark, environment, *QUICK).run()
        table = environment.table("bookings")
        ids = spark.table(table).where(f"date_of_reservation >= DATE'{LATER}'").orderBy("booking_id").limit(20)
        gone = spark.table(table).where(f"date_of_reservation < DATE'{LATER}'").orderBy("booking_id").limit(10)
        opened = [row["booking_id"] for row in ids.union(gone).collect()]
        spark.sql(f"UPDATE {table} SET booking_status = 'Open' WHERE booking_id IN {tuple(opened)}")
        task = make_task(FeatureTableCreation, spark, environment, f"env.as_of={LATER}")
        task.run()
        earlier = [column for column in PREDICTIONS.columns if column.name not in ("as_of", "was_open")]
        task.session.tables.ensure(dataclasses.replace(PREDICTIONS, columns=tuple(earlier)))
        return environment, set(opened[:20])

    def scored(self, spark: Any, environment: Environment, day: int, *settings: str) -> tuple[Any, list[str]]:
        task = make_task(ModelInferenceBatch, spark, environment, "drift.policy=skip", *settings, day=day)
        result = task.run()
        rows = spark.table(environment.table("predictions")).where(f"scored_on = DATE'{result.scored_on}'").collect()
        return result, [row["booking_id"] for row in rows]

    def test_the_open_bookings_that_are_yet_to_arrive_are_scored_once(self, spark: Any, half_open: Any) -> None:
        environment, ahead = half_open
        result, ids = self.scored(spark, environment, 23, f"env.as_of={LATER}")
        assert sorted(ids) == sorted(ahead)
        assert (result.rows, result.written) == (20, True)
        days = spark.table(environment.table("predictions")).select("as_of", "was_open").distinct().collect()
        assert [(row["as_of"], row["was_open"]) for row in days] == [(LATER, True)]
        assert "open and arrive on 2018-10-01 or later" in str(result.summary())
        assert not self.scored(spark, environment, 23, f"env.as_of={LATER}", "scope=open")[0].written
        checked = make_task(IntegrationTest, spark, environment, f"env.as_of={LATER}").run()
        assert "every booking to be scored is, on the newest day" in checked.promises
        lost = f"DELETE FROM {{predictions}} WHERE booking_id = '{ids[0]}'"
        unscored = r"every booking to be scored is, on the newest day \(1 do not\)"
        with broken(spark, environment, lost), pytest.raises(BrokenPromise, match=unscored):
            make_task(IntegrationTest, spark, environment, f"env.as_of={LATER}").run()
        # An outcome that arrives takes the booking out of the scores.
        table = environment.table("bookings")
        spark.sql(f"UPDATE {table} SET booking_status = 'Canceled' WHERE booking_id = '{ids[0]}'")
        fewer, left = self.scored(spark, environment, 23, f"env.as_of={LATER}")
        assert (fewer.rows, set(left)) == (19, ahead - {ids[0]})
        spark.sql(f"UPDATE {table} SET booking_status = 'Open' WHERE booking_id = '{ids[0]}'")

    def test_all_are_scored_when_asked_for_or_none_is_open(self, spark: Any, half_open: Any) -> None:
        environment, ahead = half_open
        whole = spark.table(environment.table("features")).count()
        asked, ids = self.scored(spark, environment, 24, f"env.as_of={LATER}", "scope=all")
        assert (asked.rows, len(ids)) == (whole, whole)
        were_open = spark.table(environment.table("predictions")).where(f"scored_on = DATE'{LATER}' AND was_open")
        assert {row["booking_id"] for row in were_open.collect()} == ahead
        assert "as scope: all asks for" in str(asked.summary())
        later, _ = self.scored(spark, environment, 25)
        assert later.rows == whole
        assert "all: no booking is open and arrives on 2026-03-25 or later" in str(later.summary())

    def test_nothing_open_is_said_and_nothing_is_written(self, spark: Any, half_open: Any, booking_mlops: Cli) -> None:
        environment, _ = half_open
        before = spark.sql(f"DESCRIBE HISTORY {environment.table('predictions')}").count()
        done = booking_mlops("model-inference-batch", "--env-file", environment.file, "--set", "scope=open")
        assert done.code == 0, done.err
        assert "nothing to score, nothing written" in done.out
        assert "no booking is open" in done.out
        assert spark.sql(f"DESCRIBE HISTORY {environment.table('predictions')}").count() == before

    def test_the_monitor_runs_on_scores_of_open_bookings(self, spark: Any, half_open: Any) -> None:
        environment, _ = half_open
        self.scored(spark, environment, 26, f"env.as_of={LATER}")
        result = make_task(ModelMonitor, spark, environment, f"env.as_of={LATER}", "fail_on_alarm=false").run()
        assert result.window.last < LATER
