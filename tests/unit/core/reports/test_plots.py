from __future__ import annotations

import numpy as np

from booking_mlops.core.reports import plots


def test_plots_are_pictures() -> None:
    labels, scores = np.array([0, 1, 0, 1]), {"challenger": np.array([0.1, 0.8, 0.4, 0.6])}
    pictures = [plots.roc(labels, scores), plots.precision_recall(labels, scores), plots.calibration(labels, scores)]
    for picture in [*pictures, plots.importance({"a": 0.2, "b": 0.8})]:
        assert picture.startswith(b"\x89PNG")
