import csv
import io

from fakes.profiles import CONFIG, FACTS, measured, profile, spec

from hostler.analysis import COLUMNS, Ask, Choice, Result, csv_text, rows_of, snippet, summary
from hostler.protocols.oip.model_config import parse_text

OWN = measured(rate=100.0, concurrency=8)
FAST = measured(Choice(instances=2, threads=1), 8, rate=150.0)
LIMITED = Ask("m", limit_s=0.02)


def test_a_faster_choice_is_suggested_with_what_it_gains():
    found = profile([OWN, FAST])
    assert found.suggested is not None
    assert found.suggested.choice == FAST.choice
    first, second = summary(found)
    assert "batch 16, 2 instances, 1 thread" in first
    assert "with 8 callers, p95 10 ms" in first
    assert "+50%" in second
    assert "noise" not in second


def test_within_noise_the_package_stays_as_it_is():
    found = profile([OWN, measured(Choice(instances=2, threads=1), 8, rate=100.5)])
    assert found.best is not None
    assert found.best.choice != Choice()
    assert found.suggested is found.results[0]
    assert "nothing tried is known to be faster" in summary(found)[1]
    notes = [row[-1] for row in rows_of(found)]
    assert notes == ["as it is, suggested", "best"]


def test_among_equals_the_smaller_and_then_the_quicker_is_suggested():
    def other(instances, memory, latency_s):
        found = measured(Choice(instances=instances), 8, 200.0, latency_s)
        return Result(found.choice, 8, found.latencies_s, found.rates, memory << 20)

    def suggested(*results):
        found = profile([OWN, *results]).suggested
        assert found is not None
        return found.choice.instances

    assert suggested(other(2, 100, 0.01), other(3, 50, 0.01)) == 3
    assert suggested(other(2, 100, 0.01), other(3, 99, 0.012)) == 2


def test_a_limit_that_nothing_keeps_is_told():
    found = profile([measured(latency_s=0.03), measured(latency_s=0.05, concurrency=2)], LIMITED)
    assert not found.kept
    assert summary(found)[0] == (
        "No point keeps p95 within 20 ms; the quickest has 30 ms with 1 callers."
    )
    assert all("over the limit" in row[-1] for row in rows_of(found))


def test_a_package_that_does_not_keep_the_limit():
    own = measured(latency_s=0.03)
    found = profile([own, measured(Choice(instances=2), latency_s=0.01)], LIMITED)
    assert "does not keep the limit" in summary(found)[1]


def test_rows_are_of_one_width_and_failures_say_why():
    rows = rows_of(profile([OWN, Result(Choice(instances=2), 1, error="no memory")]))
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[0][:4] == ("16", "1", "auto", "8")
    assert rows[1][4:] == (*["-"] * 7, "failed: no memory")


def test_csv_has_exact_numbers_and_no_guesses():
    few = Result(Choice(), 2, [0.25] * 10, [4.0] * 5, 1 << 20)
    rows = list(csv.DictReader(io.StringIO(csv_text(profile([OWN, few])))))
    assert float(rows[0]["inferences_per_s"]) == 100.0
    assert float(rows[0]["p99_s"]) == 0.01
    assert rows[0]["requests"] == "200"
    assert (rows[1]["p50_s"], rows[1]["p95_s"], rows[1]["p99_s"]) == ("0.25", "", "")
    assert rows[1]["memory_bytes"] == str(1 << 20)


def test_the_snippet_is_a_configuration():
    text = snippet(profile([OWN, measured(Choice(4, 2, 1), 8, rate=150.0)]))
    config = parse_text(text, "suggested.pbtxt")
    assert config.max_batch_size == 4
    assert config.instance_group[0].count == 2
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert not config.HasField("dynamic_batching")
    nothing = parse_text(snippet(profile([OWN])), "suggested.pbtxt")
    assert not nothing.ListFields()


def test_where_the_server_chose_the_batch_the_snippet_asks_for_batching():
    import dataclasses

    signature = dataclasses.replace(spec().signature, rows_max=0)
    found = profile(
        [OWN, measured(Choice(rows_max=4), 8, rate=150.0)], signature=signature, config=CONFIG
    )
    assert parse_text(snippet(found), "suggested.pbtxt").HasField("dynamic_batching")


def test_what_was_left_out_is_said():
    import dataclasses

    found = dataclasses.replace(profile([OWN]), left_out=[Choice(instances=2, threads=1)])
    assert "1 choice was not measured within 60 s: batch 16, 2 instances" in summary(found)[-1]


def test_noise_is_said():
    rates = [50.0, 150.0, 100.0, 120.0, 80.0]
    found = profile([Result(Choice(), 1, [0.01] * 100, rates)])
    assert "The intervals are wide (+-47% in the middle)" in summary(found)[-1]
    assert not any("wide" in line for line in summary(profile([OWN])))


def test_nothing_measured():
    found = profile([Result(Choice(), 1, error="broken")], facts=FACTS)
    assert summary(found) == ["Nothing could be measured."]
