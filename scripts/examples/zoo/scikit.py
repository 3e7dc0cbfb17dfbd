"""scikit-learn's models as skl2onnx exports them, and what scikit-learn itself predicts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow.onnx
import numpy as np
import pandas
import skl2onnx
import sklearn
from common import Case, Example, write
from mlflow.models import infer_signature
from mlflow.models.model import Model
from onnx import ModelProto
from skl2onnx import convert_sklearn, to_onnx
from skl2onnx.common.data_types import (
    DictionaryType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

EXPORTER = f"skl2onnx {skl2onnx.__version__}"
LEARN = f"scikit-learn {sklearn.__version__}"
GRAPH = "example"  # skl2onnx names a graph at random where it is given no name
# MLflow stamps each model with the moment and a random id: fixed here, so that the files stay the same.
CREATED = "2026-01-01 00:00:00.000000"
IRIS = load_iris()
X = IRIS.data.astype(np.float32)
SPECIES = IRIS.target_names[IRIS.target].astype(str)
SOME = X[[0, 50, 100, 77, 133]]


def to_bytes(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def maps(classes: np.ndarray, probabilities: np.ndarray) -> list[dict]:
    """What ZipMap makes of a matrix of probabilities: one dict a row."""
    return [dict(zip(classes.tolist(), row)) for row in probabilities.astype(np.float32)]


def example(name: str, special: str, model: ModelProto, cases: list[Case], oracle: str, **more) -> Example:
    return Example(name, EXPORTER, special, {"model.onnx": to_bytes(model)}, cases, f"{LEARN} {oracle}", **more)


def zipmap_integers() -> Example:
    """The shortest way to export a classifier, as the front page of skl2onnx shows it."""
    model = LogisticRegression(max_iter=500).fit(X, IRIS.target)
    expected = {
        "output_label": model.predict(SOME),
        "output_probability": maps(model.classes_, model.predict_proba(SOME)),
    }
    cases = [Case("five flowers", {"X": SOME}, expected, list(SOME))]
    return example(
        "sklearn-zipmap-integers",
        "defaults: probabilities are a sequence of int64 -> float maps",
        to_onnx(model, X[:1]),
        cases,
        "predict, predict_proba",
    )


def zipmap_strings() -> Example:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X, SPECIES)
    onnx = convert_sklearn(model, initial_types=[("float_input", FloatTensorType([None, 4]))], name=GRAPH)
    expected = {
        "output_label": model.predict(SOME).astype(object),
        "output_probability": maps(model.classes_, model.predict_proba(SOME)),
    }
    cases = [Case("five flowers", {"float_input": SOME}, expected, list(SOME))]
    special = "labels are strings, probabilities a sequence of string -> float maps"
    return example("sklearn-zipmap-strings", special, onnx, cases, "predict, predict_proba")


def zipmap_off() -> Example:
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, IRIS.target)
    onnx = to_onnx(model, X[:1], options={"zipmap": False})
    expected = {"label": model.predict(SOME), "probabilities": model.predict_proba(SOME).astype(np.float32)}
    cases = [Case("five flowers", {"X": SOME}, expected, list(SOME))]
    return example("sklearn-zipmap-off", "`zipmap: False`: two tensors", onnx, cases, "predict, predict_proba")


def zipmap_columns() -> Example:
    model = LogisticRegression(max_iter=500).fit(X, SPECIES)
    onnx = to_onnx(model, X[:1], options={"zipmap": "columns"})
    probabilities = model.predict_proba(SOME).astype(np.float32)
    names = [output.name for output in onnx.graph.output]
    expected = {names[0]: model.predict(SOME).astype(object)}
    expected |= dict(zip(names[1:], probabilities.T))
    cases = [Case("five flowers", {"X": SOME}, expected, list(SOME))]
    special = "`zipmap: 'columns'`: one output `[N]` a class"
    return example("sklearn-zipmap-columns", special, onnx, cases, "predict, predict_proba")


def regressor() -> Example:
    data = load_diabetes()
    features = data.data[:, :5].round(4).astype(np.float32)
    model = make_pipeline(StandardScaler(), Ridge()).fit(features, data.target)
    rows = features[:3]
    expected = {"variable": model.predict(rows).astype(np.float32).reshape(-1, 1)}
    cases = [Case("three patients", {"X": rows}, expected, list(rows))]
    return example("sklearn-regressor", "one output `[N, 1]`", to_onnx(model, features[:1]), cases, "predict")


def passengers() -> tuple[pandas.DataFrame, np.ndarray]:
    draw = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "sex": draw.choice(["female", "male"], 60),
            "embarked": draw.choice(["C", "Q", "S"], 60),
            "age": draw.integers(1, 80, 60).astype(np.float64),
            "fare": draw.uniform(5, 90, 60).round(2),
            "siblings": draw.integers(0, 4, 60),
        }
    ).astype({"sex": object, "embarked": object})
    frame.loc[draw.choice(60, 12, replace=False), "age"] = np.nan
    survived = ((frame.sex == "female") | (frame.age < 12)).astype(np.int64).to_numpy()
    return frame, survived


COLUMN_TYPES = [
    ("sex", StringTensorType([None, 1])),
    ("embarked", StringTensorType([None, 1])),
    ("age", FloatTensorType([None, 1])),
    ("fare", DoubleTensorType([None, 1])),
    ("siblings", Int64TensorType([None, 1])),
]


def columns() -> tuple[Example, pandas.DataFrame, ModelProto, dict]:
    """A forest, since a double column makes most other classifiers unloadable (see `unloadable`)."""
    frame, survived = passengers()
    frame["age"] = frame["age"].astype(np.float32)  # ONNX Runtime imputes no doubles
    prepare = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), ["sex", "embarked"]),
            ("gaps", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("numbers", "passthrough", ["fare", "siblings"]),
        ]
    )
    forest = RandomForestClassifier(n_estimators=3, max_depth=3, random_state=0)
    model = make_pipeline(prepare, forest).fit(frame, survived)
    rows = frame.iloc[:6].copy()
    rows.loc[1, "age"], rows.loc[2, "embarked"] = np.nan, "Zürich"  # a missing number and an unknown word
    onnx = convert_sklearn(model, initial_types=COLUMN_TYPES, options={"zipmap": False}, name=GRAPH)
    inputs = {name: rows[[name]].to_numpy() for name in frame.columns}
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows).astype(np.float32)}
    records = [dict(zip(rows.columns, record)) for record in zip(*(rows[name] for name in rows.columns))]
    cases = [Case("six passengers", inputs, expected, records)]
    special = "one input `[N, 1]` a column of the data frame: text, float, double, int64; imputes NaN"
    made = example("sklearn-columns", special, onnx, cases, "predict, predict_proba")
    return made, rows, onnx, expected


def doubles() -> Example:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(IRIS.data, IRIS.target)
    rows = IRIS.data[[0, 50, 100]]
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}
    cases = [Case("three flowers", {"X": rows}, expected, list(rows))]
    onnx = to_onnx(model, IRIS.data[:1], options={"zipmap": False})
    special = "double in, double out"
    return example("sklearn-doubles", special, onnx, cases, "predict, predict_proba", tolerance=1e-12)


def unloadable() -> Example:
    """Text first, then doubles: skl2onnx then declares double probabilities, and its operators make float ones."""
    frame, survived = passengers()
    frame = frame[["sex", "fare"]]
    prepare = ColumnTransformer([("words", OneHotEncoder(), ["sex"]), ("numbers", "passthrough", ["fare"])])
    model = make_pipeline(prepare, LogisticRegression()).fit(frame, survived)
    rows = frame.iloc[:2]
    fails = "does not match expected type (tensor(double))"
    inputs = {name: rows[[name]].to_numpy() for name in frame.columns}
    cases = [Case("two passengers", inputs, records=rows.to_dict("records"), fails=fails)]
    onnx = to_onnx(model, frame[:1], options={"zipmap": False})
    special = "ONNX Runtime refuses to load it: text and double columns before a linear classifier"
    return example("sklearn-unloadable", special, onnx, cases, "(none: the export is broken)")


def mlflow_bundle(made: Example, rows: pandas.DataFrame, onnx: ModelProto, expected: dict) -> Example:
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model"
        mlflow.onnx.save_model(
            onnx,
            saved,
            signature=infer_signature(rows, expected),
            mlflow_model=Model(utc_time_created=CREATED, model_uuid=f"{1:032x}"),
            save_as_external_data=False,
            pip_requirements=[],
        )
        files = {name: (saved / name).read_bytes() for name in ("model.onnx", "MLmodel")}
    special = "the same with a pandas signature of mixed types in `MLmodel`"
    return made._replace(
        name="sklearn-mlflow", exporter=f"{EXPORTER}, MLflow {mlflow.__version__}", special=special, files=files
    )


def texts() -> list[Example]:
    """Lower-casing puts a StringNormalizer into the graph, which wants the locale en_US; without it there is none."""
    good = ["a lovely day", "lovely warm sun", "warm and good", "good fun all day", "what fun"]
    bad = ["a nasty day", "nasty cold rain", "cold and bad", "bad mood all day", "what rain"]
    labels = ["good"] * len(good) + ["bad"] * len(bad)
    rows = np.array([["a lovely warm day"], ["Cold RAIN"], [""], ["nothing known"]], dtype=object)
    made = []
    for name, lowercase in (("sklearn-text", True), ("sklearn-text-cased", False)):
        model = make_pipeline(TfidfVectorizer(lowercase=lowercase), LogisticRegression(C=10)).fit(good + bad, labels)
        onnx = convert_sklearn(model, initial_types=[("text", StringTensorType([None, 1]))], name=GRAPH)
        lines = rows[:, 0]
        expected = {
            "output_label": model.predict(lines).astype(object),
            "output_probability": maps(model.classes_, model.predict_proba(lines)),
        }
        special = "one text a row, tf-idf; StringNormalizer, which needs the locale en_US.UTF-8"
        if not lowercase:
            special = "one text a row, tf-idf; needs no locale"
        cases = [Case("four texts", {"text": rows}, expected, lines.tolist())]
        made.append(example(name, special, onnx, cases, "predict, predict_proba"))
    return made


def kmeans() -> Example:
    model = KMeans(3, n_init=1, random_state=0).fit(X)
    expected = {"label": model.predict(SOME).astype(np.int64), "scores": model.transform(SOME).astype(np.float32)}
    cases = [Case("five flowers", {"X": SOME}, expected, list(SOME))]
    return example(
        "sklearn-kmeans",
        "`scores` are distances",
        to_onnx(model, X[:1]),
        cases,
        "predict, transform",
        tolerance=1e-4,
    )


def isolation_forest() -> Example:
    model = IsolationForest(n_estimators=4, max_samples=16, random_state=0).fit(X)
    rows = np.concatenate([SOME[:3], np.array([[40, -3, 9, 9]], np.float32)])
    expected = {
        "label": model.predict(rows).astype(np.int64).reshape(-1, 1),
        "scores": model.decision_function(rows).astype(np.float32).reshape(-1, 1),
    }
    cases = [Case("three flowers and an outlier", {"X": rows}, expected, list(rows))]
    onnx = to_onnx(model, X[:1], target_opset={"": 18, "ai.onnx.ml": 3})
    special = "labels are -1 and 1, `[N, 1]` both"
    return example("sklearn-isolation-forest", special, onnx, cases, "predict, decision_function")


def dict_vectorizer() -> Example:
    """The one model of scikit-learn whose input is a map: it takes one row a call."""
    records = [{"city": 1.0, "age": 30.0}, {"age": 41.0, "member": 1.0}]
    model = DictVectorizer(dtype=np.float32, sparse=False).fit(records)
    kind = DictionaryType(StringTensorType([1]), FloatTensorType([1]))
    onnx = convert_sklearn(model, initial_types=[("record", kind)], name=GRAPH)
    cases = [
        Case(f"record {number}", {"record": row}, {"variable": model.transform([row]).astype(np.float32)}, [row])
        for number, row in enumerate(records)
    ]
    return example("sklearn-dict-vectorizer", "the input is a string -> float map", onnx, cases, "transform")


def multi_output() -> Example:
    targets = np.column_stack([IRIS.target, IRIS.target == 1])
    model = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, targets)
    onnx = to_onnx(model, X[:1], options={"zipmap": False})
    probabilities = [each.astype(np.float32) for each in model.predict_proba(SOME)]
    expected = {"label": model.predict(SOME).astype(np.int64), "probabilities": probabilities}
    cases = [Case("five flowers", {"X": SOME}, expected, list(SOME))]
    special = "probabilities are a sequence of tensors, one a target, of unlike width"
    return example("sklearn-multi-output", special, onnx, cases, "predict, predict_proba")


def main() -> None:
    for make in (zipmap_integers, zipmap_strings, zipmap_off, zipmap_columns, regressor, kmeans, isolation_forest):
        write(make())
    made, rows, onnx, expected = columns()
    write(made)
    write(mlflow_bundle(made, rows, onnx, expected))
    for made in texts():
        write(made)
    write(dict_vectorizer())
    write(multi_output())
    write(doubles())
    write(unloadable())


if __name__ == "__main__":
    main()
