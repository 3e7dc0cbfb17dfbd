"""Beam's RunInference on the DirectRunner over lines of JSON, for the wine model. `scripts/bench --batch --beam PYTHON`
measures it with a Python that has apache-beam and onnx: they need older packages than scripts/bench-requirements.txt.

  bench-beam.py MODEL.onnx INPUT.jsonl OUTPUT
"""

import json
import sys

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import RunInference
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy


def outputs_by_row(session, rows, _):
    # The handler's own function gives one output a row where a model has several.
    label, probabilities = session.run(None, {session.get_inputs()[0].name: np.stack(rows)})
    return list(zip(label, probabilities))


def line(result):
    label, probabilities = result.inference
    row = {"instance": result.example.tolist(), "label": int(label), "probabilities": probabilities.tolist()}
    return json.dumps(row)


def main():
    model, source, target = sys.argv[1:]
    handler = OnnxModelHandlerNumpy(model, inference_fn=outputs_by_row)
    with beam.Pipeline() as pipeline:
        (
            pipeline
            | beam.io.ReadFromText(source)
            | beam.Map(lambda text: np.array(json.loads(text), dtype=np.float32))
            | RunInference(handler)
            | beam.Map(line)
            | beam.io.WriteToText(target)
        )


if __name__ == "__main__":
    main()
