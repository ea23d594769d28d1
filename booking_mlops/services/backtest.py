"""The backtest that is recorded with a model version."""

from __future__ import annotations

import dataclasses
import json

from booking_mlops.config.loader import build
from booking_mlops.core.model.backtest import Backtest
from booking_mlops.errors import ConfigError, RegistryError
from booking_mlops.io.registry import Registry, Version

BACKTEST_FILE = "backtest.json"
BACKTEST_DAYS_TAG = "backtest_days"
"""A version's tag: how many days its backtest judged."""
AS_OF_ROC_AUC = "as_of_roc_auc"
"""The metric of a run that the backtest gives."""


def backtest_file(backtest: Backtest) -> str:
    """Return the backtest as JSON."""
    return json.dumps(dataclasses.asdict(backtest), indent=2, default=str)


def read_backtest(registry: Registry, version: Version) -> Backtest:
    """Return the backtest that was recorded with a version; an empty one when its release made none.

    Raises: RegistryError when it can't be read.
    """
    if BACKTEST_DAYS_TAG not in version.tags:
        return Backtest()
    text = registry.read_file(version.run_id, BACKTEST_FILE)
    try:
        return build(Backtest, json.loads(text), BACKTEST_FILE)
    except (ValueError, ConfigError) as error:
        raise RegistryError(
            f"the backtest of version {version.number} can't be read from its run {version.run_id}: {error}; "
            "train again"
        ) from error
