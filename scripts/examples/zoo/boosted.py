"""XGBoost's and LightGBM's models as onnxmltools exports them, and what the two themselves predict."""

from __future__ import annotations

import lightgbm
import numpy as np
import onnxmltools
import xgboost
from common import Case, Example, write
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes, load_iris

IRIS = load_iris()
X = IRIS.data.astype(np.float32)
MISSING = X[[0, 50, 100, 77]].copy()
MISSING[1, 2] = MISSING[2, 3] = MISSING[3, 0] = np.nan
TYPES = [("input", FloatTensorType([None, 4]))]
GRAPH = "example"  # onnxmltools names a graph at random where it is given no name
XGBOOST = f"onnxmltools {onnxmltools.__version__}, XGBoost {xgboost.__version__}"
LIGHTGBM = f"onnxmltools {onnxmltools.__version__}, LightGBM {lightgbm.__version__}"
SMALL = {"n_estimators": 4, "max_depth": 2, "n_jobs": 1}


def with_gaps() -> np.ndarray:
    """Training rows of which some lack a value, so that the trees learn which way a missing one goes."""
    rows = X.copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = np.nan
    return rows


def xgboost_classifier(name: str, special: str, target: np.ndarray) -> Example:
    model = xgboost.XGBClassifier(**SMALL).fit(with_gaps(), target)
    onnx = onnxmltools.convert_xgboost(model, initial_types=TYPES, name=GRAPH)
    expected = {"label": model.predict(MISSING).astype(np.int64), "probabilities": model.predict_proba(MISSING)}
    return example(name, XGBOOST, special, onnx, expected, "XGBoost predict, predict_proba")


def xgboost_regressor() -> Example:
    data = load_diabetes()
    features = data.data[:, :4].round(4).astype(np.float32)
    model = xgboost.XGBRegressor(**SMALL).fit(features, data.target)
    onnx = onnxmltools.convert_xgboost(model, initial_types=TYPES, name=GRAPH)
    rows = features[:4].copy()
    rows[3, 2] = np.nan
    expected = {"variable": model.predict(rows).reshape(-1, 1)}
    special = "one output `[N, 1]`; NaN is a missing value"
    return example("xgboost-regressor", XGBOOST, special, onnx, expected, "XGBoost predict", rows)


def lightgbm_classifier(name: str, special: str, target: np.ndarray) -> Example:
    model = lightgbm.LGBMClassifier(**SMALL, verbose=-1, deterministic=True).fit(with_gaps(), target)
    onnx = onnxmltools.convert_lightgbm(model, initial_types=TYPES, name=GRAPH)
    probabilities = [dict(enumerate(row)) for row in model.predict_proba(MISSING).astype(np.float32)]
    expected = {"label": model.predict(MISSING).astype(np.int64), "probabilities": probabilities}
    return example(name, LIGHTGBM, special, onnx, expected, "LightGBM predict, predict_proba")


def lightgbm_regressor() -> Example:
    data = load_diabetes()
    features = data.data[:, :4].round(4).astype(np.float32)
    model = lightgbm.LGBMRegressor(**SMALL, verbose=-1, deterministic=True).fit(features, data.target)
    onnx = onnxmltools.convert_lightgbm(model, initial_types=TYPES, name=GRAPH)
    rows = features[:4]
    expected = {"variable": model.predict(rows).astype(np.float32).reshape(-1, 1)}
    return example("lightgbm-regressor", LIGHTGBM, "one output `[N, 1]`", onnx, expected, "LightGBM predict", rows)


def example(name, exporter, special, onnx, expected, oracle, rows=MISSING) -> Example:
    names = [output.name for output in onnx.graph.output]
    if names != list(expected):
        raise SystemExit(f"{name}: outputs {names}, expected {list(expected)}")
    files = {"model.onnx": onnx.SerializeToString(deterministic=True)}
    return Example(name, exporter, special, files, [Case("four rows", {"input": rows}, expected, list(rows))], oracle)


def main() -> None:
    tensors = "two tensors, no ZipMap; NaN is a missing value"
    zipmap = "ZipMap by default: int64 -> float maps; `label` declares `[1]` and gives `[N]`; NaN is a missing value"
    binary = (IRIS.target == 1).astype(np.int64)
    write(xgboost_classifier("xgboost-binary", f"two classes; {tensors}", binary))
    write(xgboost_classifier("xgboost-multiclass", f"three classes; {tensors}", IRIS.target))
    write(xgboost_regressor())
    write(lightgbm_classifier("lightgbm-binary", f"two classes; {zipmap}", binary))
    write(lightgbm_classifier("lightgbm-multiclass", f"three classes; {zipmap}", IRIS.target))
    write(lightgbm_regressor())


if __name__ == "__main__":
    main()
