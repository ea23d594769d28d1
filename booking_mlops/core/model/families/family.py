"""What every model family has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import pandas as pd

from booking_mlops.errors import ConfigError

if TYPE_CHECKING:
    # Importing scikit-learn takes a second, which a task that fits no model need not spend.
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class ModelFamily(ABC):
    """A kind of model with its hyperparameters: the fields of a subclass are the keys under `model:` in YAML.

    A subclass gives `kind` a type of one literal and a default: `kind: Literal["ridge"] = "ridge"`.
    """

    kind: str
    seed: int

    @abstractmethod
    def fit(self, inputs: pd.DataFrame, labels: npt.NDArray[Any]) -> Pipeline:
        """Return a pipeline fitted to `inputs` (n rows, one column for each feature) and `labels` 0/1 (n,).

        `inputs` is what `as_model_input` returns. The same arguments give the same model, digit for digit, on any
        number of cores. The pipeline consists of scikit-learn's classes only, so that MLflow can load it anywhere,
        and scores text it has never seen.
        """

    @abstractmethod
    def importance(self, model: Pipeline, inputs: pd.DataFrame, labels: npt.NDArray[Any]) -> dict[str, float]:
        """Return the share each feature has in what `model` knows: at least 0, 1 in total.

        `model` is what `fit` returned for these `inputs` and `labels`.
        """


def check_above_zero(name: str, value: float) -> None:
    """Raise ConfigError unless a hyperparameter is above 0."""
    if not value > 0:
        raise ConfigError(f"model.{name}: {value:g} is not above 0")


def check_not_negative(name: str, value: float) -> None:
    """Raise ConfigError when a hyperparameter is below 0."""
    if not value >= 0:
        raise ConfigError(f"model.{name}: {value:g} is below 0")


def check_share(name: str, value: float) -> None:
    """Raise ConfigError unless a hyperparameter is above 0 and at most 1."""
    if not 0 < value <= 1:
        raise ConfigError(f"model.{name}: {value:g} is not above 0 and up to 1")


def text_and_numeric(inputs: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the text columns and of the numeric columns, each in the order of `inputs`."""
    numeric = [name for name in inputs.columns if pd.api.types.is_numeric_dtype(inputs[name])]
    return [name for name in inputs.columns if name not in numeric], numeric
