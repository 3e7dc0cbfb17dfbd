"""Other people's clients over HTTP: others.py HOST:PORT."""

import io
import json
import subprocess
import sys

import requests
import zoo
from open_inference.openapi.client import OpenInferenceClient

ROW = [14.23, 1.71, 2.43, 15.6, 127, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065]


def open_inference(url: str) -> None:
    client = OpenInferenceClient(base_url=url)
    client.check_server_readiness()
    assert client.read_server_metadata().name == "predictd"
    assert client.read_model_metadata("wine").inputs[0].name == "input"
    client.check_model_readiness("wine")


def kserve(url: str) -> None:
    """The calls of KServe's InferenceRESTClient, which compares the content type as a whole."""
    assert requests.get(url, timeout=30).json()["status"] == "alive"
    assert requests.get(f"{url}/v1/models/wine", timeout=30).json()["ready"] is True
    response = requests.post(f"{url}/v1/models/wine:predict", json={"instances": [ROW]}, timeout=30)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["predictions"][0]["label"] == 0
    assert requests.get(f"{url}/v2/health/live", timeout=30).json() == {"live": True}
    assert requests.get(f"{url}/v2/health/ready", timeout=30).json() == {"ready": True}


def streamlit(url: str) -> None:
    """A page that uploads what its user chose, with and without a name that says its type."""
    body = json.dumps({"instances": [ROW]}).encode()
    for name in ("rows.json", "file"):
        response = requests.post(f"{url}/predict?model=wine", files={"file": (name, io.BytesIO(body))}, timeout=30)
        assert response.status_code == 200, response.text
        assert response.json()["prediction"] == response.json()["predictions"]
    image = (zoo.ZOO / "image.jpg").read_bytes()
    response = requests.post(f"{url}/predict?model=photos", files={"file": ("x.jpg", image, "image/jpeg")}, timeout=30)
    assert response.status_code == 200 and response.json()["prediction"], response.text
    response = requests.post(f"{url}/predict?model=wine", files={"file": ("x.gif", b"GIF89a", "image/gif")}, timeout=30)
    assert response.status_code == 400 and response.json()["detail"], response.text


def curl(url: str) -> None:
    body = json.dumps({"instances": [ROW]})
    answer = subprocess.run(["curl", "--silent", "--fail", f"{url}/predict?model=wine", "-d", body], check=True, capture_output=True)
    assert json.loads(answer.stdout)["predictions"][0]["label"] == 0


def main(address: str) -> None:
    url = f"http://{address}"
    open_inference(url)
    kserve(url)
    streamlit(url)
    curl(url)


main(sys.argv[1])
