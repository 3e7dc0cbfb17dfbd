"""The worker to compare predictd with: what a competent Python developer would write with Google's client.

Streaming pull feeds a queue, the main thread forms small batches from it and runs the model, the publisher client
batches the responses, and a request is acknowledged once its response is accepted. Same requests, same response
bodies and same attributes as predictd, for models that take one float32 input `[rows, columns]`.
PUBSUB_EMULATOR_HOST is honoured by the clients. SIGTERM and SIGINT end it after the work in hand.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import logging
import queue
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.message import Message

MAX_OUTSTANDING_MESSAGES = 10_000
MAX_ROWS = 128
MAX_WAIT_SECONDS = 0.003
# Larger than the client's 100 messages, and half its 10 ms: more throughput and less latency here.
PUBLISH = pubsub_v1.types.BatchSettings(max_messages=1000, max_latency=0.005)
SHUTDOWN_SECONDS = 10
LOG = logging.getLogger("bench-python-worker")


class Request(NamedTuple):
    message: Message
    rows: np.ndarray


class Model:
    """A session of one thread; its name and version are its folders'."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.version, self.name = path.resolve().parent.name, path.resolve().parent.parent.name

    def decode(self, message: Message) -> np.ndarray:
        rows = np.asarray(json.loads(message.data)["instances"], dtype=np.float32)
        columns = self.input.shape[1]
        if rows.ndim != 2 or rows.shape[1] != columns:
            raise ValueError(f"instances: expected rows of {columns} numbers, got shape {list(rows.shape)}")
        return rows

    def predict(self, rows: np.ndarray) -> list[dict]:
        columns = [output.tolist() for output in self.session.run(self.outputs, {self.input.name: rows})]
        return [dict(zip(self.outputs, row)) for row in zip(*columns)]


class Responses:
    """Publishes responses; a request is settled when Pub/Sub has answered for its response."""

    def __init__(self, topic: str, model: Model) -> None:
        self.publisher = pubsub_v1.PublisherClient(batch_settings=PUBLISH)
        self.topic = topic
        self.model = model
        self.in_flight: set[concurrent.futures.Future] = set()

    def send(self, message: Message, body: dict, status: str) -> None:
        given = {key: value for key, value in message.attributes.items() if not key.startswith(("goog", "ce-"))}
        own = {
            "request_id": given.get("request_id", message.message_id),
            "request_message_id": message.message_id,
            "model": self.model.name,
            "model_version": self.model.version,
            "status": status,
            "content-type": "application/json",
        }
        future = self.publisher.publish(self.topic, json.dumps(body).encode(), **{**given, **own})
        self.in_flight.add(future)
        future.add_done_callback(lambda done: self.settle(done, message))

    def settle(self, future: concurrent.futures.Future, message: Message) -> None:
        if future.exception() is None:
            message.ack()
        else:
            LOG.error("publish failed: %s", future.exception())
            message.nack()
        self.in_flight.discard(future)

    def finish(self) -> None:
        self.publisher.stop()
        concurrent.futures.wait(set(self.in_flight), timeout=SHUTDOWN_SECONDS)


def next_messages(waiting: queue.SimpleQueue, model: Model, responses: Responses) -> tuple[list[Request], bool]:
    """What is queued, up to MAX_ROWS rows, after a short wait for company; and whether to stop after it."""
    batch: list[Request] = []
    rows = 0
    deadline = None
    while rows < MAX_ROWS:
        try:
            message = waiting.get() if deadline is None else waiting.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if message is None:
            return batch, True
        deadline = deadline or time.monotonic() + MAX_WAIT_SECONDS
        try:
            request = Request(message, model.decode(message))
        except (KeyError, TypeError, ValueError) as error:
            responses.send(message, {"error": {"code": "INVALID_INPUT", "message": str(error)}}, "error")
            continue
        batch.append(request)
        rows += len(request.rows)
    return batch, False


def answer(batch: list[Request], model: Model, responses: Responses) -> None:
    try:
        predictions = model.predict(np.concatenate([request.rows for request in batch]))
    except Exception:
        LOG.exception("inference failed for a batch of %d", len(batch))
        for request in batch:
            request.message.nack()
        return
    start = 0
    for request in batch:
        end = start + len(request.rows)
        body = {"predictions": predictions[start:end], "model": model.name, "model_version": model.version}
        responses.send(request.message, body, "ok")
        start = end


def work(waiting: queue.SimpleQueue, model: Model, responses: Responses) -> None:
    stopping = False
    while not stopping:
        batch, stopping = next_messages(waiting, model, responses)
        if batch:
            answer(batch, model, responses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subscription", required=True, help="projects/P/subscriptions/S")
    parser.add_argument("--topic", required=True, help="where responses go: projects/P/topics/T")
    parser.add_argument("--model", required=True, type=Path, help="NAME/VERSION/model.onnx")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    model = Model(arguments.model)
    responses = Responses(arguments.topic, model)
    # None ends the work. A SimpleQueue's put may interrupt itself, which a signal handler needs.
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: waiting.put(None))
    with pubsub_v1.SubscriberClient() as subscriber:
        flow = pubsub_v1.types.FlowControl(max_messages=MAX_OUTSTANDING_MESSAGES)
        stream = subscriber.subscribe(arguments.subscription, callback=waiting.put, flow_control=flow)
        stream.add_done_callback(lambda _: waiting.put(None))
        LOG.info("serving %s %s from %s", model.name, model.version, arguments.subscription)
        work(waiting, model, responses)
        # Publish before the stream ends: acknowledgements travel on it. What is still queued comes again.
        responses.finish()
        stream.cancel()
        stream.result()


if __name__ == "__main__":
    main()
