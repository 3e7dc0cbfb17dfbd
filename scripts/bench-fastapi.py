"""The service that a Python developer writes first: FastAPI and onnxruntime. MODEL is the environment's.

Run by Uvicorn with uvloop and httptools, a process for each core.
"""

import os

import numpy
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
name = session.get_inputs()[0].name
app = FastAPI()


class Request(BaseModel):
    instances: list[list[float]]


@app.post("/predict")
def predict(request: Request) -> dict:
    labels, probabilities = session.run(None, {name: numpy.asarray(request.instances, numpy.float32)})
    rows = zip(labels.tolist(), probabilities.tolist(), strict=True)
    return {"predictions": [{"label": label, "probabilities": values} for label, values in rows], "model": "wine"}
