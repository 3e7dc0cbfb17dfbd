"""The batch script that a Python developer writes first: pandas reads lines of JSON in chunks, onnxruntime predicts,
pandas writes lines of JSON. For the wine model. scripts/bench --batch measures it.

  bench-pandas.py MODEL.onnx INPUT.jsonl OUTPUT.jsonl
"""

import sys

import numpy as np
import onnxruntime
import pandas as pd

CHUNK = 10_000


def main() -> None:
    model, source, target = sys.argv[1:]
    session = onnxruntime.InferenceSession(model)
    name = session.get_inputs()[0].name
    with pd.read_json(source, lines=True, chunksize=CHUNK) as chunks, open(target, "w") as out:
        for chunk in chunks:
            label, probabilities = session.run(None, {name: chunk.to_numpy(dtype=np.float32)})
            chunk["label"], chunk["probabilities"] = label, list(probabilities)
            chunk.to_json(out, orient="records", lines=True)


if __name__ == "__main__":
    main()
