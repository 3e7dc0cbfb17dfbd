"""Triton's Python client over gRPC, as it is, and gRPC's health checks: triton_grpc.py HOST:PORT."""

import sys

import grpc
import tritonclient.grpc as client_of
import zoo
from tritonclient.utils import InferenceServerException


def main(address: str) -> None:
    client = client_of.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata().name == "predictd"
    for model, inputs, expected, tolerance in zoo.cases():
        assert client.is_model_ready(model, "1") and not client.is_model_ready("nope")
        metadata = client.get_model_metadata(model)
        assert {one.name: one.datatype for one in metadata.inputs} == {name: kind for name, (kind, _) in inputs.items()}
        made = []
        for name, (datatype, array) in inputs.items():
            tensor = client_of.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            made.append(tensor)
        for coding in (None, "gzip", "deflate"):
            for outputs in (None, [client_of.InferRequestedOutput(name) for name in expected]):
                result = client.infer(model, made, outputs=outputs, request_id="7", compression_algorithm=coding)
                assert result.get_response().id == "7"
                assert result.get_response().model_version == "1"
                for name, output in expected.items():
                    zoo.check(result.as_numpy(name), output, tolerance, (model, name, coding))
    for wrong, code in (
        (lambda: client.infer("nope", []), "NOT_FOUND"),
        (lambda: client.infer("torch-multi", made[:1]), "INVALID_ARGUMENT"),
        (lambda: client.get_model_repository_index(), "UNIMPLEMENTED"),
    ):
        try:
            wrong()
        except InferenceServerException as error:
            assert code in error.status(), (code, error)
        else:
            raise AssertionError(f"no error, expected {code}")
    typed_contents(address)
    health(address)


def typed_contents(address: str) -> None:
    """Elements in the typed fields of a message, as KServe's client sends them."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    fields = {"FP32": "fp32_contents", "INT64": "int64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents", "UINT64": "uint64_contents"}
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for model, inputs, expected, tolerance in zoo.cases():
            if not all(kind in fields for kind, _ in inputs.values()):
                continue
            request = service_pb2.ModelInferRequest(model_name=model, model_version="1")
            for name, (kind, array) in inputs.items():
                tensor = request.inputs.add(name=name, datatype=kind, shape=list(array.shape))
                getattr(tensor.contents, fields[kind]).extend(array.reshape(-1).tolist())
            result = client_of.InferResult(stub.ModelInfer(request, timeout=30))
            for name, output in expected.items():
                zoo.check(result.as_numpy(name), output, tolerance, (model, name, "typed"))


def health(address: str) -> None:
    """grpc.health.v1 by hand: its messages are one field each."""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
        try:
            check(b"\x0a\x01x")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("no error")


main(sys.argv[1])
