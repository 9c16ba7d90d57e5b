"""How a model answers one body; the gateway's tests of it are in gateway/sagemaker/test_ask.py."""

from __future__ import annotations

import pytest
from fakes.gateway import FakeLive
from fakes.variants import HandlerLive

from hostler.core import Code, HostlerError
from hostler.serving import Question, answer, decodes_slowly, prepare


async def test_a_request_is_nobody_s_until_its_caller_says() -> None:
    live = FakeLive("m")
    asked = prepare(live, Question(b"1,2", "text/csv"))
    asked.request.context.principal = "alice"
    assert (await answer(live, asked, 100)).body == b"1.0,2.0\n"
    assert live.requests[0].context.principal == "alice"


def test_what_cannot_be_read_is_the_model_s_to_say() -> None:
    with pytest.raises(HostlerError) as raised:
        prepare(FakeLive("m"), Question(b"1,x", "text/csv"))
    assert (raised.value.code, raised.value.details["status"]) == (Code.MODEL_ERROR, 400)


@pytest.mark.parametrize(
    ("content_type", "slowly"),
    [
        ("image/png", True),
        ("IMAGE/JPEG; q=1", True),
        ("application/x-image", True),
        ("text/csv", False),
        ("", False),
        ("text/x-image-list", False),
        ("application/json; of=image", False),
    ],
)
def test_pictures_are_decoded_elsewhere(content_type: str, slowly: bool) -> None:
    question = Question(b"", content_type)
    assert decodes_slowly(FakeLive("m"), question) is slowly
    assert not decodes_slowly(HandlerLive("h"), question), "a handler gets the bytes as they are"
