"""Trains the wine classifiers, writes them as MLflow would, and notes what scikit-learn itself predicts.

Writes `tests/models/wine/1` (logistic regression), `tests/models/wine/2` (random forest) and
`tests/models/wine/expected.json`. Running it again writes the same bytes.
"""

import json
import shutil
import tempfile
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnxruntime
import pandas
from mlflow.models import infer_signature
from mlflow.models.model import Model
from onnx import ModelProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

REPOSITORY = Path(__file__).resolve().parents[2]
WINE = REPOSITORY / "tests" / "models" / "wine"
TOLERANCE = 1e-5
OPSET = {"": 21, "ai.onnx.ml": 3}
# MLflow stamps each model with the moment and a random id: fixed here, so that the files stay the same.
CREATED = "2026-01-01 00:00:00.000000"


def to_float32_rows(features: pandas.DataFrame) -> np.ndarray:
    return features.to_numpy().astype(np.float32)


def export(classifier: ClassifierMixin, columns: int) -> ModelProto:
    """float32 `[N, columns]` in; label int64 `[N]` and probabilities float32 `[N, 3]` out."""
    return to_onnx(
        classifier,
        initial_types=[("input", FloatTensorType([None, columns]))],
        options={id(classifier): {"zipmap": False}},
        target_opset=OPSET,
        name="wine",
    )


def save(
    onnx_model: ModelProto, version: str, features: pandas.DataFrame, labels: np.ndarray, probabilities: np.ndarray
) -> Path:
    """Lets MLflow write the model, then keeps the two files that serving needs."""
    signature = infer_signature(features, {"label": labels, "probabilities": probabilities})
    target = WINE / version
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model"
        metadata = Model(utc_time_created=CREATED, model_uuid=f"{int(version):032x}")
        mlflow.onnx.save_model(
            onnx_model,
            saved,
            signature=signature,
            mlflow_model=metadata,
            save_as_external_data=False,
            pip_requirements=[],
        )
        for name in ("model.onnx", "MLmodel"):
            shutil.copyfile(saved / name, target / name)
    return target / "model.onnx"


def check(path: Path, rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got_labels, got_probabilities = session.run(["label", "probabilities"], {"input": rows})
    if not np.array_equal(got_labels, labels):
        raise SystemExit(f"{path}: ONNX Runtime gives other labels than scikit-learn")
    difference = float(np.abs(got_probabilities - probabilities).max())
    if difference > TOLERANCE:
        raise SystemExit(
            f"{path}: probabilities differ from scikit-learn's by {difference}, expected {TOLERANCE} at most"
        )
    print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size} bytes, probabilities within {difference:.1e}")


def main() -> None:
    wine = load_wine(as_frame=True)
    features: pandas.DataFrame = wine.data
    rows = to_float32_rows(features)
    classifiers = {
        "1": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=0)),
        "2": RandomForestClassifier(n_estimators=100, max_depth=6, random_state=0),
    }
    versions = {}
    for version, classifier in classifiers.items():
        classifier.fit(rows, wine.target.to_numpy())
        labels, probabilities = classifier.predict(rows), classifier.predict_proba(rows)
        path = save(export(classifier, rows.shape[1]), version, features, labels, probabilities.astype(np.float32))
        check(path, rows, labels, probabilities)
        versions[version] = {"labels": labels.tolist(), "probabilities": probabilities.tolist()}
    expected = {
        "columns": list(features.columns),
        "rows": features.to_numpy().tolist(),
        "tolerance": TOLERANCE,
        "versions": versions,
    }
    (WINE / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
