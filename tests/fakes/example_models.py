"""Python models of the same kinds as the public examples of Triton's Python backend.

add_sub, auto_complete, bls (sync, async), bls_decoupled, decoupled (square, repeat),
custom_metrics, preprocessing, instance_kind; and models that ask others in ways those do not.
"""

from __future__ import annotations

from pathlib import Path

from fakes.onnx_models import add_sub
from fakes.packages import write_package
from fakes.python_models import python_model, tensors

__all__ = ["write_example_models"]

PAIR = tensors("FP32", "4", "INPUT0 INPUT1", "OUTPUT0 OUTPUT1")
DECOUPLED = "model_transaction_policy { decoupled: true }\n"
NUMBER = tensors("INT32", "1", "IN", "OUT")

ADD_SUB = """
def initialize(self, args):
    config = json.loads(args["model_config"])
    self.kinds = [
        pb_utils.triton_string_to_numpy(
            pb_utils.get_output_config_by_name(config, name)["data_type"]
        )
        for name in ("OUTPUT0", "OUTPUT1")
    ]

def execute(self, requests):
    return [self.answer(request) for request in requests]

def answer(self, request):
    a, b = (pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in ("INPUT0", "INPUT1"))
    first = pb_utils.Tensor("OUTPUT0", (a + b).astype(self.kinds[0]))
    second = pb_utils.Tensor("OUTPUT1", (a - b).astype(self.kinds[1]))
    return pb_utils.InferenceResponse(output_tensors=[first, second])
"""
AUTO_COMPLETE = (
    """
@staticmethod
def auto_complete_config(config):
    for name in ("INPUT0", "INPUT1"):
        config.add_input({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
    for name in ("OUTPUT0", "OUTPUT1"):
        config.add_output({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
    config.set_max_batch_size(BATCH)
    if BATCH:
        config.set_dynamic_batching()
    return config
"""
    + ADD_SUB
)
BLS = """
def execute(self, requests):
    responses = []
    for request in requests:
        name = pb_utils.get_input_tensor_by_name(request, "MODEL_NAME").as_numpy()[0]  # bytes
        asked = pb_utils.InferenceRequest(
            model_name=name,
            requested_output_names=["OUTPUT0", "OUTPUT1"],
            inputs=[
                pb_utils.get_input_tensor_by_name(request, name) for name in ("INPUT0", "INPUT1")
            ],
        )
        response = asked.exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        responses.append(pb_utils.InferenceResponse(output_tensors=response.output_tensors()))
    return responses
"""
BLS_ASYNC = """
async def execute(self, requests):
    import asyncio
    responses = []
    for request in requests:
        inputs = [pb_utils.get_input_tensor_by_name(request, n) for n in ("INPUT0", "INPUT1")]
        calls = [
            pb_utils.InferenceRequest(
                model_name=name, requested_output_names=["OUTPUT0", "OUTPUT1"], inputs=inputs
            ).async_exec()
            for name in ("auto_batch", "add_sub_onnx")
        ]
        both = await asyncio.gather(*calls)
        for response in both:
            if response.has_error():
                raise pb_utils.TritonModelException(response.error().message())
        first = pb_utils.get_output_tensor_by_name(both[0], "OUTPUT0")
        second = pb_utils.get_output_tensor_by_name(both[1], "OUTPUT1")
        responses.append(pb_utils.InferenceResponse(output_tensors=[first, second]))
    return responses
"""
SQUARE = """
def initialize(self, args):
    config = json.loads(args["model_config"])
    if not pb_utils.using_decoupled_model_transaction_policy(config):
        raise pb_utils.TritonModelException("it needs the decoupled transaction policy")

def execute(self, requests):
    import threading
    for request in requests:
        value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        args = (request.get_response_sender(), value)
        threading.Thread(target=self.respond, args=args, daemon=True).start()
    return None

def respond(self, sender, value):
    for _ in range(value.flat[0]):
        sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value.copy())]))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REPEAT = """
def execute(self, requests):
    import threading
    (request,) = requests
    arrays = [
        pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("IN", "DELAY")
    ]
    sender = request.get_response_sender()
    threading.Thread(target=self.respond, args=(sender, *arrays), daemon=True).start()
    time.sleep(pb_utils.get_input_tensor_by_name(request, "WAIT").as_numpy()[0] / 1000)

def respond(self, sender, values, delays):
    for index, (value, delay) in enumerate(zip(values, delays)):
        time.sleep(delay / 1000)
        index = pb_utils.Tensor("IDX", np.array([index], np.uint32))
        value = pb_utils.Tensor("OUT", np.array([value], np.int32))
        sender.send(pb_utils.InferenceResponse(output_tensors=[index, value]))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REPEAT_CONFIG = """
backend: "python"
input [
  { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
  { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
  { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] }
]
output [
  { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
]
"""
BLS_DECOUPLED = """
def execute(self, requests):
    return [self.answer(request) for request in requests]

def answer(self, request):
    asked = pb_utils.InferenceRequest(
        model_name="square", inputs=request.inputs(), requested_output_names=["OUT"]
    )
    total = np.array([[0]])  # INT64, whatever the configuration says
    for response in asked.exec(decoupled=True):
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        if len(response.output_tensors()) > 0:
            total += pb_utils.get_output_tensor_by_name(response, "OUT").as_numpy()
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)])
"""
BLS_DECOUPLED_ASYNC = """
async def execute(self, requests):
    import asyncio
    responses = []
    for request in requests:
        calls = [
            pb_utils.InferenceRequest(
                model_name="square", inputs=request.inputs(), requested_output_names=["OUT"]
            ).async_exec(decoupled=True)
            for _ in range(2)
        ]
        total = np.array([[0]], np.int32)
        for stream in await asyncio.gather(*calls):
            for response in stream:
                if response.has_error():
                    raise pb_utils.TritonModelException(response.error().message())
                if len(response.output_tensors()) > 0:
                    total += pb_utils.get_output_tensor_by_name(response, "OUT").as_numpy()
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)]))
    return responses
"""
RELAY = """
async def execute(self, requests):
    for request in requests:
        sender = request.get_response_sender()
        stream = await pb_utils.InferenceRequest(
            model_name="square", inputs=request.inputs(), requested_output_names=["OUT"]
        ).async_exec(decoupled=True)
        async for response in stream:
            if response.output_tensors():
                sender.send(response)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
METRICS = """
def initialize(self, args):
    family = pb_utils.MetricFamily(
        name="requests_process_latency_ns",
        description="Cumulative time spent processing requests",
        kind=pb_utils.MetricFamily.COUNTER,
    )
    self.counter = family.Metric(labels={"model": "custom_metrics", "version": "1"})
    gauge = pb_utils.MetricFamily("last_value", "The last value", pb_utils.MetricFamily.GAUGE)
    self.gauge = gauge.Metric()
    sizes = pb_utils.MetricFamily("values", "All values", pb_utils.MetricFamily.HISTOGRAM)
    self.histogram = sizes.Metric(labels={"which": "all"}, buckets=[1.0, 10.0])

def execute(self, requests):
    responses = []
    for request in requests:
        value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        number = int(value.flat[0])
        if number < 0:
            os._exit(3)
        self.counter.increment(number)
        self.gauge.set(number)
        self.histogram.observe(number)
        pb_utils.Logger.log_info("counted {}".format(self.counter.value()))
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value.copy())]))
    return responses
"""
PREPROCESS = """
def execute(self, requests):
    import io
    from PIL import Image
    responses = []
    for request in requests:
        images = []
        for row in pb_utils.get_input_tensor_by_name(request, "INPUT_0").as_numpy():
            image = Image.open(io.BytesIO(row.tobytes())).convert("RGB").resize((8, 8))
            pixels = np.asarray(image, np.float32) / 255.0
            images.append((pixels - 0.5).transpose(2, 0, 1))
        out = pb_utils.Tensor("OUTPUT_0", np.stack(images))
        responses.append(pb_utils.InferenceResponse(output_tensors=[out]))
    return responses
"""
INSTANCE_KIND = """
def initialize(self, args):
    self.kind = "{} {} {} {}".format(
        args["model_instance_kind"], args["model_instance_device_id"], args["model_name"],
        args["model_version"],
    )

def execute(self, requests):
    text = pb_utils.Tensor("OUT", np.array([self.kind], object))
    return [pb_utils.InferenceResponse([text]) for _ in requests]
"""
THREADS = """
def execute(self, requests):
    from concurrent.futures import ThreadPoolExecutor
    value = requests[0].inputs()[0].as_numpy()
    calls = [
        pb_utils.InferenceRequest(
            model_name="add_sub_onnx",
            requested_output_names=["OUTPUT0"],
            inputs=[pb_utils.Tensor(n, np.full((1, 4), i, np.float32))
                    for n in ("INPUT0", "INPUT1")],
        )
        for i in range(int(value.flat[0]))
    ]
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda call: call.exec(), calls))
    total = sum(r.output_tensors()[0].as_numpy().sum() for r in responses)
    out = pb_utils.Tensor("OUT", np.array([total], np.int32))
    return [pb_utils.InferenceResponse([out]) for _ in requests]
"""


def write_example_models(folder: Path) -> Path:
    """All of them, in a repository."""
    rows = "max_batch_size: 8\n"
    python_model(folder, "add_sub", ADD_SUB, PAIR)
    for name, batch in (("auto_batch", 4), ("auto_no_batch", 0)):
        body = AUTO_COMPLETE.replace("BATCH", str(batch))
        python_model(folder, name, body, 'backend: "python"\n')
    write_package(folder / "add_sub_onnx", {"config.pbtxt": rows})
    add_sub(folder / "add_sub_onnx" / "1" / "model.onnx", "FP32", 4)
    named = PAIR.replace(
        "input [", 'input [ { name: "MODEL_NAME" data_type: TYPE_STRING dims: [ 1 ] },', 1
    )
    python_model(folder, "bls_sync", BLS, named)
    python_model(folder, "bls_async", BLS_ASYNC, rows + PAIR)
    python_model(folder, "square", SQUARE, rows + NUMBER + DECOUPLED)
    python_model(folder, "repeat", REPEAT, REPEAT_CONFIG + DECOUPLED)
    python_model(folder, "bls_decoupled_sync", BLS_DECOUPLED, rows + NUMBER)
    python_model(folder, "bls_decoupled_async", BLS_DECOUPLED_ASYNC, rows + NUMBER)
    python_model(folder, "relay", RELAY, rows + NUMBER + DECOUPLED)
    python_model(folder, "custom_metrics", METRICS, rows + NUMBER)
    image = tensors("UINT8", "-1", "INPUT_0", "").replace(", ]", "]")
    output = 'output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]\n'
    python_model(folder, "preprocessing", PREPROCESS, rows + image.split("output")[0] + output)
    kinds = NUMBER.replace('"OUT" data_type: TYPE_INT32', '"OUT" data_type: TYPE_STRING')
    python_model(
        folder, "instance_kind", INSTANCE_KIND, kinds + "instance_group [ { kind: KIND_CPU } ]"
    )
    python_model(folder, "bls_threads", THREADS, NUMBER)
    return folder
