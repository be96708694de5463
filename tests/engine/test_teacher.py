import logging
import math
import shutil

import pytest
import torch
from conftest import TINY_TRANSFORMER, Run, parse_training, train_here
from fairseq import tasks
from torch import nn

from nmt_kd.criterions import base
from nmt_kd.engine import teacher
from nmt_kd.engine.chance import ChanceCheck
from nmt_kd.engine.distribution import TopDistribution, WholeDistribution
from nmt_kd.engine.models import run_model, target_token_index
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError

LIKE = torch.zeros(())
BRIEFLY = ["--criterion", "cross_entropy", "--max-update", "1"]


@pytest.fixture
def token_index(sample, task):
    return target_token_index(sample["target"], task.target_dictionary.pad())


def changed_checkpoint(run: Run, path, change):
    """A copy of a run's last checkpoint after `change(state)`, away from the run's dictionaries unless it says so."""
    state = run.checkpoint()
    change(state)
    torch.save(state, path)
    return path


def refusal(path, task) -> str:
    with pytest.raises(UserError) as error:
        Teacher.load(str(path), task)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_gives_the_models_own_predictions_for_the_tokens_that_count(teacher_path, task, sample, token_index):
    teacher = Teacher.load(str(teacher_path), task)
    with torch.no_grad():
        output, _ = teacher.models[0](**sample["net_input"])
    logits = teacher.read(sample, token_index, LIKE).logits
    kept = sample["target"].ne(task.target_dictionary.pad())
    torch.testing.assert_close(logits(slice(None)), output[kept])
    torch.testing.assert_close(logits(slice(3, 8)), output[kept][3:8])


def test_an_ensemble_averages_probabilities(teacher_path, data, task, sample, token_index, tmp_path):
    other = train_here(data, tmp_path, *BRIEFLY, architecture=["--arch", "lstm_wiseman_iwslt_de_en"])
    paths = [str(teacher_path), str(other.save_dir / "checkpoint_last.pt")]
    members = [Teacher.load(path, task).read(sample, token_index, LIKE).logits for path in paths]
    ensemble = Teacher.load(":".join(paths), task)
    mean = sum(member(slice(None)).softmax(-1) for member in members) / 2
    ours = ensemble.read(sample, token_index, LIKE).logits(slice(None))
    torch.testing.assert_close(ours.softmax(-1), mean)
    torch.testing.assert_close(ours.exp(), mean)
    assert ensemble.fingerprint.count("+") == 1
    again = ensemble.read(sample, token_index, LIKE).decode(sample["net_input"]["prev_output_tokens"])
    torch.testing.assert_close(again.logits(slice(None)), ours)


def test_is_frozen_in_evaluation_mode_and_no_module(teacher_path, task):
    teacher = Teacher.load(str(teacher_path), task)
    assert not isinstance(teacher, nn.Module)
    for model in teacher.models:
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_follows_the_students_precision(teacher_path, task, sample, token_index, dtype):
    teacher = Teacher.load(str(teacher_path), task)
    exact = teacher.read(sample, token_index, LIKE).logits(slice(None))
    logits = teacher.read(sample, token_index, torch.zeros((), dtype=dtype)).logits(slice(None))
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.1)


def test_needs_neither_the_folder_it_was_trained_on_nor_its_embedding_files(teacher_run, task, tmp_path, caplog):
    def change(state):
        state["cfg"]["task"]["data"] = "/gone"
        state["cfg"]["model"].encoder_embed_path = state["cfg"]["model"].decoder_embed_path = "/gone/embeddings.txt"

    Teacher.load(str(changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change)), task)
    assert "the symbols of the source and target are unchecked" in caplog.text


def test_a_model_shared_without_its_training_state_will_do(teacher_run, task, tmp_path):
    state = teacher_run.checkpoint()
    torch.save({"model": state["model"], "cfg": state["cfg"]}, tmp_path / "teacher.pt")
    Teacher.load(str(tmp_path / "teacher.pt"), task)


def test_does_not_become_the_model_whose_bleu_is_measured(teacher_path, data):
    task = tasks.setup_task(parse_training([data, *TINY_TRANSFORMER, "--eval-bleu"]).task)
    Teacher.load(str(teacher_path), task)
    assert not hasattr(task, "sequence_generator")


@pytest.mark.parametrize("path", ["", ":"])
def test_no_path_is_an_error(task, path):
    assert "--teacher-path" in refusal(path, task)


def test_a_missing_file_is_an_error(task, tmp_path):
    assert f"{tmp_path}/none.pt does not exist" in refusal(tmp_path / "none.pt", task)


def test_another_language_pair_is_an_error(teacher_run, task, tmp_path):
    def change(state):
        state["cfg"]["task"].update(source_lang="de", target_lang="en")

    assert "translates de-en, but the student is trained on en-de" in refusal(
        changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change), task
    )


def test_a_permuted_dictionary_of_the_same_size_is_an_error_that_shows_the_symbols(teacher_run, data, task, tmp_path):
    path = changed_checkpoint(teacher_run, tmp_path / "teacher.pt", lambda state: None)
    shutil.copy(data / "dict.en.txt", tmp_path)
    lines = (data / "dict.de.txt").read_text().splitlines()
    (tmp_path / "dict.de.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    first, second = (line.split()[0] for line in lines[:2])
    message = refusal(path, task)
    size = len(task.target_dictionary)
    assert f"target dictionary, {tmp_path}/dict.de.txt, of {size} symbols; dict.de.txt in {data} has {size};" in message
    assert f"checkpoint / data: line 4: {second!r} / {first!r}; line 5: {first!r} / {second!r};" in message
    assert message.endswith("with the teacher's dictionaries (fairseq-preprocess --srcdict --tgtdict)")


def test_a_longer_dictionary_is_an_error_that_says_both_sizes(teacher_run, data, task, tmp_path):
    path = changed_checkpoint(teacher_run, tmp_path / "teacher.pt", lambda state: None)
    (tmp_path / "dict.en.txt").write_text((data / "dict.en.txt").read_text() + "further 1\n")
    size = len(task.source_dictionary)
    message = refusal(path, task)
    assert f"of {size + 1} symbols; dict.en.txt in {data} has {size};" in message
    assert "the shorter dictionary is the beginning of the longer" in message


def test_another_vocabulary_size_without_dictionaries_is_an_error(teacher_run, task, tmp_path):
    def change(state):
        state["cfg"]["task"]["data"] = "/gone"
        state["model"]["decoder.embed_tokens.weight"] = torch.zeros(7, 24)

    message = refusal(changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change), task)
    assert f"teacher.pt has 7 symbols, but dict.de.txt in {task.cfg.data} has {len(task.target_dictionary)};" in message


def test_a_decoder_without_encoder_is_an_error(teacher_run, task, tmp_path):
    def change(state):
        state["cfg"]["model"].arch = state["cfg"]["model"]._name = "transformer_lm"

    assert "is not an encoder-decoder model (transformer_lm)" in refusal(
        changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change), task
    )


def test_an_unknown_architecture_is_an_error_that_asks_for_its_user_dir(teacher_run, task, tmp_path):
    def change(state):
        state["cfg"]["model"].arch = state["cfg"]["model"]._name = "my_transformer"

    message = refusal(changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change), task)
    assert "unknown architecture my_transformer; add the --user-dir" in message


def test_code_in_a_setting_of_the_teacher_is_refused_and_not_run(data, task, tmp_path):
    run = train_here(data, tmp_path, *BRIEFLY, architecture=["--arch", "fconv_iwslt_de_en"])

    def change(state):
        code = f"__import__('os').system('touch {tmp_path}/ran') or [(8, 3)]"
        state["cfg"]["model"].encoder_layers = code

    message = refusal(changed_checkpoint(run, tmp_path / "teacher.pt", change), task)
    assert "is not a plain literal" in message
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit_their_own_configuration_are_an_error(teacher_run, task, tmp_path):
    def change(state):
        state["cfg"]["model"].encoder_layers = 2

    message = refusal(changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change), task)
    assert "does not fit the model that its own configuration describes" in message


def test_an_adaptive_softmax_is_an_error(teacher_path, task, sample, token_index):
    model = Teacher.load(str(teacher_path), task).models[0]
    model.decoder.adaptive_softmax = nn.Identity()
    with pytest.raises(UserError, match="--adaptive-softmax-cutoff"):
        run_model(model, sample["net_input"], token_index)


def test_a_student_with_more_positions_than_the_teacher_is_warned_of(teacher_path, task, caplog):
    teacher = Teacher.load(str(teacher_path), task)
    teacher.warn_of_longer_students(task.max_positions())
    teacher.warn_of_longer_students(None)
    assert "positions" not in caplog.text
    teacher.warn_of_longer_students((1024, 2048))
    assert (
        "the teacher has 1,024 target positions, the student 2,048; a longer sentence will end the train" in caplog.text
    )
    assert "source positions" not in caplog.text


def test_a_sentence_longer_than_the_teachers_positions_is_an_error(teacher_path, task, sample, token_index):
    teacher = Teacher.load(str(teacher_path), task)
    teacher.models[0].decoder.max_target_positions = 3
    length = sample["target"].size(1)
    with pytest.raises(UserError, match=f"target sentence of {length} tokens is longer than the teacher's 3 positions"):
        teacher.read(sample, token_index, LIKE)


def test_a_teacher_no_better_than_chance_is_an_error_once_enough_tokens_are_seen():
    check = ChanceCheck()
    gold = torch.zeros(ChanceCheck.TOKENS // 2, dtype=torch.long)
    wrong = torch.zeros(len(gold), 5)
    wrong[:, 1] = 4
    wrong = wrong.log_softmax(-1)
    check.observe(WholeDistribution(wrong), gold)
    with pytest.raises(UserError, match=r"no better than chance \(4\.\d\d nats a token; a uniform guess has 1\.61\)"):
        check.observe(WholeDistribution(wrong), gold)


def test_a_teacher_that_knows_something_passes_and_is_asked_no_further():
    check = ChanceCheck()
    gold = torch.zeros(ChanceCheck.TOKENS, dtype=torch.long)
    right = torch.zeros(len(gold), 5)
    right[:, 0] = 0.1
    check.observe(WholeDistribution(right), gold)
    assert check.done
    check.observe(WholeDistribution(-right * 100), gold)


@pytest.mark.parametrize("listed", [0.0, 0.3])
def test_a_few_words_without_a_rest_may_miss_most_gold_tokens_but_not_all(listed):
    gold = torch.zeros(ChanceCheck.TOKENS, dtype=torch.long)
    words = torch.tensor([[1, 2]]).repeat(len(gold), 1)
    words[: int(listed * len(gold)), 1] = 0
    log_q = torch.full((len(gold), 2), 0.5).log()
    top = TopDistribution(words, log_q, torch.full((len(gold),), -torch.inf), 200)
    if listed:
        ChanceCheck().observe(top, gold)
        return
    with pytest.raises(UserError, match=r"no better than chance \(5\.99 nats a token; a uniform guess has 5\.30\)"):
        ChanceCheck().observe(top, gold)


def test_predictions_that_are_nan_are_named_at_once_and_not_blamed_on_the_dictionaries():
    gold = torch.zeros(9, dtype=torch.long)
    logits = torch.zeros(len(gold), 5)
    logits[4] = math.nan
    with pytest.raises(UserError, match=r"^the teacher's predictions are NaN at 1 of 9 target tokens; if tr"):
        ChanceCheck().observe(WholeDistribution(logits), gold)


def test_a_teacher_with_nan_in_its_weights_is_refused_with_their_name(teacher_run, task, tmp_path):
    def change(state):
        state["model"]["decoder.layers.0.fc2.bias"][3] = math.nan

    assert refusal(changed_checkpoint(teacher_run, tmp_path / "teacher.pt", change), task) == (
        f"teacher {tmp_path}/teacher.pt has NaN or infinity in decoder.layers.0.fc2.bias, so its training has "
        "diverged; give an earlier checkpoint"
    )


def test_only_the_first_of_several_workers_reads_the_files_to_identify_them(build, caplog, monkeypatch):
    """fairseq shows the others' log from warnings on."""
    hashed = []
    monkeypatch.setattr(teacher, "file_hash", lambda path: hashed.append(path) or "a hash")
    for level, expected in ((logging.WARNING, 0), (logging.INFO, 1)):
        with caplog.at_level(level, logger=base.logger.name):
            build("word_kd")
        assert len(hashed) == expected
    assert "|teacher_sha256:a hash|" in caplog.text


@pytest.mark.parametrize("right", [0.0, 0.3])
def test_a_teacher_that_rules_words_out_may_be_wrong_often_but_not_always(right):
    """With 100 words, a word without probability counts as if it had 1 / 200."""
    gold = torch.zeros(ChanceCheck.TOKENS, dtype=torch.long)
    logits = torch.full((len(gold), 100), -math.inf)
    token = torch.arange(len(gold))
    logits[token, (token >= right * len(gold)).long()] = 0.0
    if right:
        ChanceCheck().observe(WholeDistribution(logits), gold)
    else:
        with pytest.raises(UserError, match=r"no better than chance \(5\.30 nats a token; a uniform guess has 4\.61"):
            ChanceCheck().observe(WholeDistribution(logits), gold)


def test_follows_autocast_and_is_not_converted_again_and_keeps_its_precision_in_validation(
    teacher_path, task, sample, token_index
):
    teacher = Teacher.load(str(teacher_path), task)
    exact = teacher.read(sample, token_index, LIKE).logits(slice(None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = teacher.read(sample, token_index, LIKE)
        assert predictions.outputs[0].projection.features.dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
        logits = predictions.logits(slice(None))
        again = predictions.decode(sample["net_input"]["prev_output_tokens"]).logits(slice(None))
    assert {parameter.dtype for parameter in teacher.models[0].parameters()} == {torch.bfloat16}
    weights = [parameter.data_ptr() for parameter in teacher.models[0].parameters()]
    in_validation = teacher.read(sample, token_index, LIKE).logits(slice(None))
    assert [parameter.data_ptr() for parameter in teacher.models[0].parameters()] == weights
    for found in (logits, again, in_validation):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, logits, rtol=0, atol=0)
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.1)


def test_where_autocast_is_off_for_the_device_the_precision_is_the_students_to_the_bit(
    teacher_path, task, sample, token_index
):
    """--amp on a CPU: fairseq turns autocast on for GPUs alone."""
    teacher = Teacher.load(str(teacher_path), task)
    exact = teacher.read(sample, token_index, LIKE).logits(slice(None))
    with torch.autocast("cpu", enabled=False):
        logits = teacher.read(sample, token_index, LIKE).logits(slice(None))
    torch.testing.assert_close(logits, exact, rtol=0, atol=0)
