import pytest
from fakes.profiles import CONFIG, spec

from hostler.analysis import Ask, Choice
from hostler.analysis.variants import config_of, facts_of
from hostler.core import Batching, Code, EnsemblePlan, HostlerError, Sequencing, Signature


def test_a_choice_becomes_a_configuration():
    config = config_of(Choice(4, 2, 1), spec())
    assert config["max_batch_size"] == 4
    assert config["instance_group"] == [{**CONFIG["instance_group"][0], "count": 2}]
    assert config["parameters"] == {"intra_op_thread_count": {"string_value": "1"}}
    assert config["version_policy"] == {"specific": {"versions": [3]}}
    assert CONFIG["max_batch_size"] == 16, "the package's own is left alone"


def test_nothing_chosen_changes_nothing_but_what_would_spoil_a_measurement():
    config = config_of(Choice(), spec())
    for key in ("max_batch_size", "instance_group", "parameters"):
        assert config[key] == CONFIG[key]
    assert "response_cache" not in config
    assert config["model_warmup"] == []


def test_a_batch_size_that_the_server_completed_is_completed_again():
    completed = spec(signature=Signature((), (), batched=True, rows_max=0))
    assert "max_batch_size" not in config_of(Choice(), completed)
    assert config_of(Choice(rows_max=4), completed)["max_batch_size"] == 4


def test_preferred_sizes_keep_within_the_batch():
    batching = {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 5}
    given = spec(config={**CONFIG, "dynamic_batching": batching})
    config = config_of(Choice(rows_max=4), given)
    assert config["dynamic_batching"] == {**batching, "preferred_batch_size": [4]}


def test_facts():
    facts = facts_of(spec(options={"intra_op_thread_count": "2"}), Ask("m"), 3, 8)
    assert (facts.rows_max, facts.instances, facts.threads) == (16, 1, 2)
    assert (facts.request_rows, facts.cores, facts.tunable) == (3, 8, True)
    alone = facts_of(spec(batching=Batching(), options={}), Ask("m"), 1, 8)
    assert (alone.rows_max, alone.threads) == (1, None)
    assert not facts_of(spec(ensemble=EnsemblePlan()), Ask("m"), 1, 8).tunable


def test_sequences_are_refused():
    with pytest.raises(HostlerError, match="serves sequences") as caught:
        facts_of(spec(sequencing=Sequencing()), Ask("m"), 1, 8)
    assert caught.value.code is Code.UNIMPLEMENTED
