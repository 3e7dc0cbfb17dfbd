"""MLflow's client of its scoring server, as it is: mlflow_client.py HOST PORT."""

import sys

import numpy
import pandas
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

ROW = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
COLUMNS = [
    "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
    "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline",
]  # fmt: skip

client = ScoringServerClient(sys.argv[1], int(sys.argv[2]))
client.ping()
assert client.get_version()
for data in (pandas.DataFrame([ROW], columns=COLUMNS), numpy.array([ROW])):
    predictions = client.invoke(data).get_predictions()
    label = predictions["label"].iloc[0] if isinstance(predictions, pandas.DataFrame) else predictions
    assert numpy.asarray(label).reshape(-1)[0] == 0, predictions
