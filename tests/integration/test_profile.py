"""`hostler profile` on real models, for as short a time as says anything."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fakes import onnx_models, python_models

from hostler import app
from hostler.analysis import Ask, Profile, csv_text, html_page, snippet
from hostler.config import resolve
from hostler.core import Code, HostlerError
from hostler.protocols.oip.model_config import parse_text


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.affine(folder / "affine" / "1" / "model.onnx", 2.0)
    onnx_models.identity(folder / "variable" / "1" / "model.onnx", "FP32", ["batch", "n"])
    onnx_models.picky_gather(folder / "picky" / "1" / "model.onnx")
    python_models.scale(folder, "scale", 2.0)
    return folder


def run(models: Path, model: str, **asked: object) -> tuple[Profile, list[str]]:
    said: list[str] = []
    ask = Ask(model, **{"budget_s": 2.0, "quick": True, **asked})  # type: ignore[arg-type]
    return app.profile(resolve().settings, [models], ask, said.append), said


def test_an_onnx_model(models: Path) -> None:
    profile, said = run(
        models, "affine", instances=(1, 2), threads=(1,), rows_max=(2,), concurrency=(1, 8)
    )
    assert not any(result.error for result in profile.results)
    choices = {(r.choice.rows_max, r.choice.instances, r.choice.threads) for r in profile.results}
    assert {(None, None, None), (None, 1, 1)} <= choices
    for result in profile.results:
        assert result.count >= 20
        assert result.throughput > 10
        assert result.memory_bytes > 0
        assert len(result.rates) % 5 == 0
        median_s = result.latency_s(50)
        assert median_s is not None
        # Closed loop: callers, throughput and latency belong together (Little's law).
        mean_s = sum(result.latencies_s) / result.count
        assert result.throughput * mean_s == pytest.approx(result.concurrency, rel=0.5)
    assert said
    assert "callers" in said[0]
    rows = list(csv.DictReader(csv_text(profile).splitlines()))
    assert len(rows) == len(profile.results)
    assert "<svg" in html_page(profile)
    parse_text(snippet(profile), "suggested.pbtxt")


def test_a_python_model_in_workers(models: Path) -> None:
    profile, _ = run(models, "scale", instances=(2,), rows_max=(1,), concurrency=(4,), budget_s=6.0)
    two = [result for result in profile.results if result.choice.instances == 2]
    assert two
    assert not two[0].error
    one = profile.results[0]
    assert two[0].memory_bytes > one.memory_bytes * 1.3, "two workers hold more than one"


def test_open_dimensions_and_real_inputs(models: Path, tmp_path: Path) -> None:
    with pytest.raises(HostlerError, match="--shape x=128") as caught:
        run(models, "variable")
    assert caught.value.code is Code.INVALID_ARGUMENT
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 7), np.float32))
    data = (tmp_path / "x.npz").read_bytes()
    for given in ({"shapes": {"x": [(3,), (5,)]}}, {"data": data}):
        profile, _ = run(
            models, "variable", instances=(1,), concurrency=(1,), budget_s=1.0, **given
        )
        assert profile.results[0].count >= 20


def test_a_model_that_refuses_made_up_inputs_says_what_helps(models: Path) -> None:
    with pytest.raises(HostlerError, match="give real ones with --data"):
        run(models, "picky", rows=16)


def test_a_model_that_is_not_there_and_one_of_many(models: Path) -> None:
    with pytest.raises(HostlerError) as caught:
        run(models, "nobody")
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(HostlerError, match=r"holds 4 models.*'affine'.*--repository"):
        run(models, "")


def test_an_ensemble_is_asked_for_by_name(tmp_path: Path) -> None:
    onnx_models.affine(tmp_path / "prep" / "1" / "model.onnx", 2.0)
    (tmp_path / "both" / "1").mkdir(parents=True)
    (tmp_path / "both" / "config.pbtxt").write_text(
        'platform: "ensemble" input { name: "x" data_type: TYPE_FP32 dims: [4] } '
        'output { name: "y" data_type: TYPE_FP32 dims: [4] } ensemble_scheduling { step { '
        'model_name: "prep" input_map { key: "x" value: "x" } '
        'output_map { key: "y" value: "y" } } }'
    )
    with pytest.raises(HostlerError, match=f"profile both --repository {tmp_path}$"):
        app.profile(resolve().settings, [tmp_path / "both"], Ask("", quick=True), print)
