from __future__ import annotations

from pathlib import Path
from typing import Any

from booking_mlops.core.bookings.features import DEFAULT_FEATURES, FEATURE_NAMES, FEATURES
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Cli, Environment, write_environment
from tests.spark.conftest import FORTY, Trained, make_task, registry_of

KEY_FEATURES = [feature.name for feature in FEATURES if feature.in_key]


def test_the_features_hold_no_label_and_say_when_they_were_known(spark: Any, trained: Trained) -> None:
    features = spark.table(trained.environment.table("features"))
    assert set(features.columns) == {"booking_id", *FEATURE_NAMES, "feature_key", "booked_on", "arrival_date"}
    assert not {"is_canceled", "booking_status"} & set(features.columns)
    assert features.where("booked_on <> date_sub(arrival_date, lead_time)").count() == 0
    assert features.where("booked_on > arrival_date").count() == 0
    labels = spark.table(trained.environment.table("labels"))
    assert labels.columns == ["booking_id", "is_canceled", "event_date"]


def test_labels_are_the_status_of_the_booking(spark: Any, trained: Trained) -> None:
    joined = spark.table(trained.environment.table("labels")).join(
        spark.table(trained.environment.table("bookings")), "booking_id"
    )
    assert joined.where("is_canceled <> CAST(booking_status = 'Canceled' AS INT)").count() == 0
    assert joined.count() == trained.results["feature_table_creation"].rows


def test_twins_share_a_feature_key_and_others_do_not(spark: Any, trained: Trained) -> None:
    table = spark.table(trained.environment.table("features"))
    distinct = table.select(*KEY_FEATURES).distinct().count()
    assert table.select("feature_key").distinct().count() == distinct
    assert table.select("feature_key", *KEY_FEATURES).distinct().count() == distinct


def test_changed_bookings_change_the_features_and_nothing_else_writes(spark: Any, featured: Environment) -> None:
    again = make_task(FeatureTableCreation, spark, featured).run()
    assert not again.written
    spark.sql(f"UPDATE {featured.table('bookings')} SET lead_time = 1 WHERE booking_id = 'INN00001'")
    changed = make_task(FeatureTableCreation, spark, featured).run()
    assert changed.written
    assert changed.features_version == again.features_version + 1
    row = spark.table(featured.table("features")).where("booking_id = 'INN00001'").first()
    assert row["lead_time"] == 1


def test_a_tampered_feature_table_is_built_again(spark: Any, featured: Environment) -> None:
    spark.sql(f"DELETE FROM {featured.table('features')} WHERE lead_time > 10")
    assert make_task(FeatureTableCreation, spark, featured).run().rows == (
        spark.table(featured.table("bookings")).count()
    )


def test_sampling_keeps_twins_together_and_the_same_rows_in_both_tables(spark: Any, featured: Environment) -> None:
    whole = spark.table(featured.table("features")).count()
    result = make_task(FeatureTableCreation, spark, featured, "env.sampling.fraction=0.25").run()
    assert 0.2 * whole < result.rows < 0.3 * whole
    features, labels = spark.table(featured.table("features")), spark.table(featured.table("labels"))
    assert features.join(labels, "booking_id").count() == result.rows == labels.count()
    bookings = spark.table(featured.table("bookings")).selectExpr(
        "booking_id", f"xxhash64({', '.join(KEY_FEATURES)}) AS feature_key"
    )
    split = bookings.join(features.select("feature_key").distinct(), "feature_key", "left_semi")
    assert split.count() == result.rows


def test_without_bookings_the_error_says_what_to_run_first(
    environment: Environment, booking_mlops: Cli, spark: Any
) -> None:
    outcome = booking_mlops("feature-table-creation", "--env-file", environment.file)
    assert outcome.code == 1
    assert f"table {environment.table('bookings')} does not exist" in outcome.err


def test_an_empty_feature_table_is_an_error(
    spark: Any, tmp_path: Path, booking_mlops: Cli, featured: Environment
) -> None:
    spark.sql(f"DELETE FROM {featured.table('bookings')}")
    outcome = booking_mlops("feature-table-creation", "--env-file", featured.file)
    assert outcome.code == 1
    assert "is empty" in outcome.err
    assert write_environment(tmp_path).schema != featured.schema


def test_derived_features_are_what_they_say_and_can_be_trained_on(spark: Any, featured: Environment) -> None:
    table = spark.table(featured.table("features"))
    meaning = {
        "total_nights": "number_of_weekend_nights + number_of_week_nights",
        "guests": "number_of_adults + number_of_children",
        "price_per_guest": "average_price / greatest(number_of_adults + number_of_children, 1)",
        "stay_price": "average_price * (number_of_weekend_nights + number_of_week_nights)",
        "arrival_month": "CAST(date_format(arrival_date, 'M') AS INT)",
        "booked_weekday": "pmod(datediff(booked_on, DATE'2018-01-01'), 7) + 1",
        "arrival_weekday": "pmod(datediff(arrival_date, DATE'2018-01-01'), 7) + 1",
    }
    for name, sql in meaning.items():
        assert table.where(f"abs({name} - ({sql})) > 1e-9 OR {name} IS NULL").isEmpty(), name
    derived = [feature.name for feature in FEATURES if not feature.default]
    assert derived
    result = make_task(ModelTrain, spark, featured, *FORTY, f"add_features=[{', '.join(derived)}]").run()
    schema = registry_of(featured).input_schema(registry_of(featured).version(result.version))
    assert list(schema) == [*DEFAULT_FEATURES, *derived]
