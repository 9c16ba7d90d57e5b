"""Archives of SageMaker's framework containers through real worker processes."""

import io
import json
import os
import pickle
import textwrap
import warnings
from importlib import metadata

import numpy as np
import pytest
from fakes.wheels import make_wheel, numpy_wheel
from fakes.workers import Running

from hostler.core import (
    Code,
    Context,
    HostlerError,
    InferResponse,
    Inspection,
    SystemClock,
    payload_body,
    payload_request,
)
from hostler.repository import Config, Container, Environments, complete, read_container

X = np.random.default_rng(7).normal(size=(60, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32) + 3


def spec_of(folder, image="", **environment):
    found = read_container("e/1", folder, "t", Container(image, environment), 1, Config())
    return complete(found.packages[0].versions[-1], Inspection())


def put(folder, script):
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "inference.py").write_text(textwrap.dedent(script))


async def ask(running, body, content_type="", accept="", attributes=""):
    """All pieces and the first one's parameters, or the error that came last."""
    parameters = {"content_type": content_type, "accept": accept, "custom_attributes": attributes}
    sink = running.begin([payload_request(body, parameters, Context())])
    await sink.answers()
    found = sink.streams[0]
    if isinstance(found[-1], HostlerError):
        return found[-1]
    assert all(isinstance(response, InferResponse) for response in found)
    return [bytes(payload_body(response)) for response in found], dict(found[0].parameters)


def csv_of(rows):
    return "\n".join(",".join(repr(float(value)) for value in row) for row in rows).encode()


def npy_of(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def numbers(answer):
    (body,), parameters = answer
    if parameters["content_type"] == "application/json":
        return json.loads(body)
    if parameters["content_type"] == "application/x-npy":
        return np.load(io.BytesIO(body)).tolist()
    return np.loadtxt(io.BytesIO(body), delimiter=",", ndmin=1).tolist()


# -- scikit-learn --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear():
    sklearn = pytest.importorskip("sklearn.linear_model")
    return sklearn.LinearRegression().fit(X, Y)


async def test_sklearn_without_a_script(tmp_path, linear):
    (tmp_path / "model.joblib").write_bytes(pickle.dumps(linear))
    expected = linear.predict(X[:4])
    async with Running(spec_of(tmp_path, "sagemaker-scikit-learn:1.2-1-cpu-py3")) as running:
        bodies = {
            "text/csv": csv_of(X[:4]),
            "application/json": json.dumps(X[:4].tolist()).encode(),
            "application/x-npy": npy_of(X[:4]),
        }
        for content_type, body in bodies.items():
            for accept in ("", *bodies):
                answer = await ask(running, body, content_type, accept)
                np.testing.assert_allclose(numbers(answer), expected, rtol=1e-5)
        wide = await ask(running, csv_of(np.ones((1, 4))), "text/csv")
        assert (wide.code, wide.details) == (Code.MODEL_ERROR, {"status": 500})
        assert "LinearRegression is expecting 3 features" in wide.message
        for args, status in (((b"1,2", "x/y"), 415), ((b"1,2,3", "text/csv", "x/y"), 406)):
            error = await ask(running, *args)
            assert (error.code, error.details) == (Code.MODEL_ERROR, {"status": status})


SCRIPT = """
    import os
    import sys
    import joblib
    from factor import FACTOR

    def model_fn(model_dir):
        assert model_dir == os.environ["SM_MODEL_DIR"]
        print("loaded from", os.path.basename(model_dir))
        return joblib.load(os.path.join(model_dir, "anything.bin"))

    def predict_fn(data, model):
        return model.predict(data) * FACTOR

    def output_fn(prediction, accept, context):
        name = "X-Amzn-SageMaker-Custom-Attributes"
        context.set_response_header(0, name, (context.get_request_header(0, name) or "") + "; back")
        if accept == "application/x-env":
            variables = [os.environ.get(k) for k in ("TOKEN", "PYTHONPATH", "LD_PRELOAD")]
            return [*variables, "/mine" in sys.path, sys.path[0]]
        if accept == "text/event-stream":
            return (f"data: {value:.4f}\\n\\n" for value in prediction), accept
        return b",".join(b"%.4f" % value for value in prediction), "text/csv"
    """


async def test_a_script_with_its_context_its_variables_and_a_stream(tmp_path, linear, caplog):
    (tmp_path / "anything.bin").write_bytes(pickle.dumps(linear))
    put(tmp_path, SCRIPT)
    (tmp_path / "code" / "factor.py").write_text("FACTOR = 2")
    variables = {
        "SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "TOKEN": "t", "PYTHONPATH": "/mine", "LD_PRELOAD": "",
    }  # fmt: skip
    spec = spec_of(tmp_path, "sagemaker-scikit-learn:1.2-1-cpu-py3", **variables)
    expected = [f"{value:.4f}" for value in linear.predict(X[:3]) * 2]
    with caplog.at_level("INFO", "hostler.placement"):
        async with Running(spec) as running:
            body = npy_of(X[:3])
            pieces, parameters = await ask(running, body, "application/x-npy", "", "a=1")
            assert pieces == [",".join(expected).encode()]
            assert parameters == {"content_type": "text/csv", "custom_attributes": "a=1; back"}
            pieces, parameters = await ask(running, body, "application/x-npy", "text/event-stream")
            assert pieces == [f"data: {value}\n\n".encode() for value in expected]
            assert parameters["content_type"] == "text/event-stream"
            pieces, _ = await ask(running, body, "application/x-npy", "application/x-env")
            told = ["t", "/mine", "", True, str(tmp_path / "code")]
            assert json.loads(pieces[0]) == told, "the script's own folder comes first"
    assert "TOKEN" not in os.environ


async def test_large_bodies_in_both_directions(tmp_path):
    put(
        tmp_path,
        """
        def model_fn(model_dir): return None
        def transform_fn(model, body, content_type, accept): return body[::-1], content_type
        """,
    )
    async with Running(spec_of(tmp_path)) as running:
        body = np.random.default_rng(1).bytes(5 << 20)
        (back,), parameters = await ask(running, body, "application/octet-stream")
        assert back == body[::-1]
        assert parameters == {"content_type": "application/octet-stream"}
        assert await ask(running, b"", "a/b") == ([b""], {"content_type": "a/b"})


async def test_a_script_that_fails_is_told_with_its_place(tmp_path):
    script = """
        def model_fn(model_dir):
            return {}["weights"]
        """
    put(tmp_path, script)
    with pytest.raises(HostlerError) as caught:
        async with Running(spec_of(tmp_path)):
            pass
    assert caught.value.message == (
        "model 'e/1' failed in model_fn: KeyError: 'weights' (code/inference.py:3)"
    )
    put(tmp_path, "import no_such_module_at_all")
    with pytest.raises(HostlerError, match=r"no_such_module_at_all.*requirements\.txt"):
        async with Running(spec_of(tmp_path)):
            pass


# -- PyTorch -------------------------------------------------------------------------------


@pytest.mark.torch
async def test_torchscript_without_a_script(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(tmp_path / "net.pth"))
    expected = module(torch.from_numpy(X[:2])).detach().numpy()
    async with Running(spec_of(tmp_path, "pytorch-inference:2.3-cpu-py311")) as running:
        for body, kind in (
            (csv_of(X[:2]), "text/csv"),
            (json.dumps(X[:2].tolist()).encode(), "application/json"),
            (npy_of(X[:2]), "application/x-npy"),
        ):
            for accept in ("application/json", "text/csv", "application/x-npy"):
                answer = await ask(running, body, kind, accept)
                np.testing.assert_allclose(numbers(answer), expected, rtol=1e-4, atol=1e-5)
        words = await ask(running, b"a,b,c", "text/csv")
        assert words.details == {"status": 400}


@pytest.mark.torch
async def test_a_pickled_module_is_not_loaded_without_a_script(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(3, 2).state_dict(), str(tmp_path / "model.pth"))
    with pytest.raises(HostlerError, match="is not TorchScript"):
        async with Running(spec_of(tmp_path)):
            pass


@pytest.mark.torch
async def test_a_pytorch_script_has_the_toolkits_defaults(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), str(tmp_path / "model.pth"))
    put(
        tmp_path,
        """
        import os, torch
        from sagemaker_inference import content_types, decoder, encoder

        def model_fn(model_dir):
            model = torch.nn.Linear(3, 2)
            model.load_state_dict(torch.load(os.path.join(model_dir, "model.pth")))
            return model

        def input_fn(body, content_type):
            assert content_type == content_types.JSON
            return torch.tensor(decoder.decode(body, content_type), dtype=torch.float32)
        """,
    )
    expected = module(torch.from_numpy(X[:2])).detach().numpy()
    async with Running(spec_of(tmp_path)) as running:
        answer = await ask(running, json.dumps(X[:2].tolist()).encode(), "application/json")
        np.testing.assert_allclose(numbers(answer), expected, rtol=1e-5, atol=1e-6)


# -- XGBoost -------------------------------------------------------------------------------


def booster(rounds=5, **params):
    xgboost = pytest.importorskip("xgboost")
    labels = params.pop("labels", Y)
    data = xgboost.DMatrix(X, labels)
    return xgboost.train({"max_depth": 2, "nthread": 1, **params}, data, rounds)


def predicted(*models):
    xgboost = pytest.importorskip("xgboost")
    return np.mean([model.predict(xgboost.DMatrix(X[:4])) for model in models], axis=0)


def libsvm_of(rows, first=1):
    lines = (
        " ".join(["0", *(f"{index + first}:{float(value)!r}" for index, value in enumerate(row))])
        for row in rows
    )
    return "\n".join(lines).encode()


@pytest.mark.parametrize("form", ["json", "ubj", "pickle"])
async def test_the_built_in_algorithm(tmp_path, form):
    model = booster()
    if form == "pickle":
        (tmp_path / "xgboost-model").write_bytes(pickle.dumps(model))
    else:
        model.save_model(str(tmp_path / f"m.{form}"))
        (tmp_path / f"m.{form}").rename(tmp_path / "xgboost-model")
    expected = predicted(model)
    async with Running(spec_of(tmp_path, "sagemaker-xgboost:1.7-1")) as running:
        for body, kind in (
            (csv_of(X[:4]), "text/csv"),
            (csv_of(X[:4]).replace(b",", b";"), "text/csv"),
            (libsvm_of(X[:4]), "text/libsvm"),
            (libsvm_of(X[:4], 0), "text/x-libsvm"),
            (libsvm_of(X[:4]), ""),
        ):
            answer = await ask(running, body, kind)
            assert answer[1] == {"content_type": "text/csv"}
            np.testing.assert_allclose(numbers(answer), expected, rtol=1e-5)
        (body,), _ = await ask(running, csv_of(X[:4]), "text/csv", "application/json")
        scores = [item["score"] for item in json.loads(body)["predictions"]]
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
        (body,), _ = await ask(running, csv_of(X[:1]), "text/csv", "application/jsonlines")
        assert json.loads(body).keys() == {"score"}
        for args, status in (
            ((csv_of(np.ones((1, 9))), "text/csv"), 400),
            ((b"0 a:1", "text/libsvm"), 400),
            ((b"0 99999999999999999999:1", "text/libsvm"), 400),
            ((b"0 3:1e400", "text/libsvm"), 400),
            ((b"x", "image/png"), 415),
            ((csv_of(X[:1]), "text/csv", "image/png"), 406),
        ):
            error = await ask(running, *args)
            assert error.details == {"status": status}, error


async def test_several_boosters_answer_together(tmp_path):
    models = [booster(eta=eta) for eta in (0.1, 0.5)]
    for index, model in enumerate(models):
        model.save_model(str(tmp_path / f"xgboost-model-{index}.json"))
    async with Running(spec_of(tmp_path)) as running:
        answer = await ask(running, csv_of(X[:4]), "text/csv")
        np.testing.assert_allclose(numbers(answer), predicted(*models), rtol=1e-5)
    first = spec_of(tmp_path, SAGEMAKER_INFERENCE_ENSEMBLE="false")
    async with Running(first) as running:
        answer = await ask(running, csv_of(X[:4]), "text/csv")
        np.testing.assert_allclose(numbers(answer), predicted(models[0]), rtol=1e-5)


async def test_classes_are_voted_on(tmp_path):
    labels = np.digitize(Y, [2.0, 4.0])
    settings = {"objective": "multi:softmax", "num_class": 3, "labels": labels}
    models = [booster(rounds, **settings) for rounds in (1, 3, 6)]
    for index, model in enumerate(models):
        model.save_model(str(tmp_path / f"xgboost-model-{index}.json"))
    xgboost = pytest.importorskip("xgboost")
    votes = np.stack([model.predict(xgboost.DMatrix(X)) for model in models]).astype(int)
    expected = [np.bincount(column).argmax() for column in votes.T]
    assert len({tuple(row) for row in votes.tolist()}) > 1
    async with Running(spec_of(tmp_path)) as running:
        answer = await ask(running, csv_of(X), "text/csv")
        assert numbers(answer) == expected


async def test_an_xgboost_script(tmp_path):
    model = booster()
    (tmp_path / "xgboost-model").write_bytes(pickle.dumps(model))
    put(
        tmp_path,
        """
        import os, pickle
        from sagemaker_xgboost_container import encoder

        def model_fn(model_dir):
            with open(os.path.join(model_dir, "xgboost-model"), "rb") as file:
                return pickle.load(file)

        def input_fn(body, content_type):
            return encoder.libsvm_to_dmatrix(body)
        """,
    )
    async with Running(spec_of(tmp_path)) as running:
        answer = await ask(running, libsvm_of(X[:4]), "text/libsvm")
        assert answer[1] == {"content_type": "application/json"}
        np.testing.assert_allclose(numbers(answer), predicted(model), rtol=1e-5)


# -- an environment of its own -------------------------------------------------------------


async def test_requirements_of_an_archive(tmp_path):
    folder, wheels = tmp_path / "archive", tmp_path / "wheels"
    for each in (folder / "code", wheels):
        each.mkdir(parents=True)
    numpy_wheel(wheels)
    make_wheel(folder / "code", "greeting", "1.0", {"greeting/__init__.py": "TEXT = 'hello'\n"})
    # Stand-ins for what the container brings, which the file leaves out.
    make_wheel(wheels, "joblib", metadata.version("joblib"), {"joblib/__init__.py": ""})
    sklearn = metadata.version("scikit-learn")
    make_wheel(wheels, "scikit_learn", sklearn, {"sklearn/__init__.py": "OURS = True\n"})
    (folder / "code" / "requirements.txt").write_text("./greeting-1.0-py3-none-any.whl\n")
    put(
        folder,
        """
        import greeting, sklearn
        def model_fn(model_dir): return greeting.TEXT
        def transform_fn(model, body, content_type, accept): return model + str(sklearn.OURS)
        """,
    )
    arguments = ("--no-index", f"--find-links={wheels}")
    config = Config(environments_dir=str(tmp_path / "cache"), pip_arguments=arguments)
    environments = Environments(config, SystemClock(), {"HOME": str(tmp_path)})
    try:
        spec = await environments.equip(spec_of(folder), lambda text: None)
        async with Running(spec) as running:
            assert (await ask(running, b""))[0] == [b"helloTrue"]
    finally:
        environments.close()
