"""Triton's Python clients over HTTP, both of them, as they are: triton_http.py HOST:PORT."""

import asyncio
import sys

import tritonclient.http as http
import tritonclient.http.aio as aio
import zoo
from tritonclient.utils import InferenceServerException


def inputs_of(module, inputs: dict, binary: bool) -> list:
    made = []
    for name, (datatype, array) in inputs.items():
        tensor = module.InferInput(name, list(array.shape), datatype)
        # Halves have no JSON in this client.
        tensor.set_data_from_numpy(array, binary_data=binary or datatype == "FP16")
        made.append(tensor)
    return made


def outputs_of(module, expected: dict, binary: bool) -> list:
    half = [name for name, output in expected.items() if output["datatype"] == "FP16"]
    return [module.InferRequestedOutput(name, binary_data=binary or name in half) for name in expected]


def main(address: str) -> None:
    client = http.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata()["name"] == "predictd"
    count = 0
    for model, inputs, expected, tolerance in zoo.cases():
        assert client.is_model_ready(model) and client.is_model_ready(model, "1")
        metadata = client.get_model_metadata(model)
        assert {one["name"] for one in metadata["inputs"]} == set(inputs), metadata
        assert client.get_model_config(model, "1")["name"] == model
        for binary in (True, False):
            for coding in (None, "gzip", "deflate"):
                for named in (True, False):
                    result = client.infer(
                        model,
                        inputs_of(http, inputs, binary),
                        outputs=outputs_of(http, expected, binary) if named else None,
                        request_id="7",
                        request_compression_algorithm=coding,
                        response_compression_algorithm=coding,
                    )
                    assert result.get_response()["id"] == "7"
                    for name, output in expected.items():
                        zoo.check(result.as_numpy(name), output, tolerance, (model, name, binary, coding))
                        count += 1
    assert count > 100, count
    statistics = client.get_inference_statistics("torch-multi")
    assert statistics["model_stats"][0]["inference_stats"]["success"]["count"] > 0, statistics
    assert {one["name"] for one in client.get_model_repository_index()} >= set(zoo.MODELS)
    for wrong in (lambda: client.get_model_metadata("nope"), lambda: client.infer("nope", []), lambda: client.load_model("wine")):
        try:
            wrong()
        except InferenceServerException as error:
            assert "nope" in error.message() or "models are loaded" in error.message(), error
        else:
            raise AssertionError("no error")
    asyncio.run(main_aio(address))


async def main_aio(address: str) -> None:
    async with aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        for model, inputs, expected, tolerance in zoo.cases():
            for binary in (True, False):
                outputs = outputs_of(aio, expected, binary)
                result = await client.infer(model, inputs_of(aio, inputs, binary), outputs=outputs)
                for name, output in expected.items():
                    zoo.check(result.as_numpy(name), output, tolerance, (model, name, binary))


main(sys.argv[1])
