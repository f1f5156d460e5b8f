"""The random forest that the attack encoder is measured against, where scikit-learn is installed.

The service has no use for scikit-learn and does not bring it.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from models.evaluate_attack import (
    Flags,
    LabelledFlows,
    classification,
    logged,
    without_ports,
)

TREES = 200
SEED = 0


def forest_figures(flows: LabelledFlows, held: Flags) -> dict[str, dict[str, float]] | None:
    """Macro-F1 of 200 trees on the 65 logged traffic columns, `with_ports` and `without_ports`.

    None when scikit-learn is not installed.
    """
    if find_spec("sklearn") is None:
        return None
    from sklearn.ensemble import RandomForestClassifier  # loaded only by who has it

    found = {}
    for name, features in (
        ("with_ports", flows.features),
        ("without_ports", without_ports(flows.features)),
    ):
        columns = logged(features)
        forest = RandomForestClassifier(TREES, random_state=SEED, n_jobs=2)
        forest.fit(columns[~held], flows.labels[~held])
        guess = np.asarray(forest.predict(columns[held]))
        found[name] = classification(flows.labels[held], guess)
    return found
