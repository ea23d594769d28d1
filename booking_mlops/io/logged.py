"""What an MLflow run has logged: a model, and the tables it was trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.data.dataset import Dataset


@dataclass(frozen=True)
class LoggedModel:
    """A model that a run has logged: where MLflow finds it, and its id, which it has from MLflow 3 on."""

    uri: str
    model_id: str | None


@dataclass(frozen=True)
class TableVersion:
    """A Delta table, by its full name, as it was at a version."""

    table: str
    version: int

    def dataset(self) -> Dataset:
        """Return it as MLflow's kind of data set."""
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        # From the name and version only: MLflow's own way to make it reads the table with Spark.
        source = DeltaDatasetSource(delta_table_name=self.table, delta_table_version=self.version)
        return MetaDataset(source, name=self.table)
