"""The masked teacher against a slow form, one sentence and one pass at a time, and what is refused."""

import math

import pytest
import torch
from conftest import TINY_TRANSFORMER, Run, binarise, train_here
from fairseq import checkpoint_utils
from test_caching import contents

from nmt_kd.caching.building import build_cache
from nmt_kd.caching.sources import masked
from nmt_kd.caching.store import read_store, sentences, task_of_data
from nmt_kd.cli import main
from nmt_kd.engine.chance import ChanceCheck
from nmt_kd.errors import UserError

WIDTHS = [f"--{side}-{name}-dim" for side in ("encoder", "decoder") for name in ("embed", "ffn-embed")]
MASKED_MODEL = [
    *("--arch", "cmlm_transformer", *TINY_TRANSFORMER[2:], "--encoder-normalize-before", "--decoder-normalize-before"),
    *(text for width in WIDTHS for text in (width, "32")),
]
MASKED_TRAINING = [
    *("--task", "translation_lev", "--criterion", "nat_loss", "--noise", "random_mask"),
    *("--label-smoothing", "0.1", "--dropout", "0", "--lr", "0.01", "--disable-validation"),
]


@pytest.fixture(scope="module")
def words(corpus, tmp_path_factory):
    """The phrasebook in whole words, of which a small masked model learns more, with an empty target and an unknown."""
    folder = tmp_path_factory.mktemp("words")
    for file in (corpus / "text").iterdir():
        (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    for language, lines in (("en", ["The unheardof train .", "Nothing ."]), ("de", ["Der nieerwähnte Zug .", ""])):
        with (folder / f"valid.{language}").open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
    binarise(folder, folder / "data-bin", "--joined-dictionary")
    return folder / "data-bin"


@pytest.fixture(scope="module")
def teacher_run(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    return train_here(words, folder, *MASKED_TRAINING, "--max-update", "160", architecture=MASKED_MODEL)


@pytest.fixture(scope="module")
def masked_teacher(teacher_run):
    return teacher_run.save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def other_teacher(words, tmp_path_factory):
    """A masked model that has learnt next to nothing."""
    folder = tmp_path_factory.mktemp("other")
    run = train_here(words, folder, *MASKED_TRAINING, "--max-update", "2", architecture=MASKED_MODEL)
    return run.save_dir / "checkpoint_last.pt"


def build(out, data, teacher, *arguments):
    main(["cache", str(data), str(out), "--source", "masked", "--teacher-path", str(teacher), *map(str, arguments)])
    return out


@pytest.fixture(scope="module")
def store(words, masked_teacher, tmp_path_factory):
    return build(tmp_path_factory.mktemp("store") / "out", words, masked_teacher)


def slow_form(paths, subset, passes, temperature, top_k):
    """Yield a dict of words to probabilities for each position of each sentence, None for the end of the sentence."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path) for path in paths])
    task.load_dataset(subset)  # by fairseq's task for masked models, which adds a symbol at the beginning
    symbols = task.target_dictionary
    for number in range(len(task.dataset(subset))):
        item = task.dataset(subset)[number]
        source, target = item["source"], item["target"]
        assert source[0] == target[0] == symbols.bos()
        rows = [None] * (len(target) - 1)
        for offset in range(passes):
            chosen = [index for index in range(1, len(target) - 1) if (index - 1) % passes == offset]
            if not chosen:
                continue
            inputs = target.clone()
            inputs[chosen] = symbols.unk()
            members = []
            for model in models:
                model.eval()
                with torch.no_grad():
                    encoded = model.forward_encoder([source[None], torch.tensor([len(source)])])
                    logits = model.decoder(normalize=False, prev_output_tokens=inputs[None], encoder_out=encoded)
                members.append(logits[0].double().softmax(-1))
            for index in chosen:
                mean = (sum(member[index] for member in members) / len(members)).log().tolist()
                words = [word for word in range(len(mean)) if word not in (symbols.bos(), symbols.pad(), symbols.eos())]
                best = sorted(words, key=lambda word: -mean[word])[:top_k]
                shares = [math.exp(mean[word] / temperature) for word in best]
                assert rows[index - 1] is None
                rows[index - 1] = {word: share / sum(shares) for word, share in zip(best, shares, strict=True)}
        yield rows


@pytest.mark.parametrize(
    ("teachers", "passes", "temperature", "top_k"),
    [(["masked"], 7, 10, 8), (["masked"], 1, 1, 3), (["masked"], 100, 2, 8), (["masked", "other"], 3, 2, 8)],
)
def test_the_store_has_what_a_slow_form_predicts(
    words, masked_teacher, other_teacher, tmp_path, teachers, passes, temperature, top_k
):
    paths = [{"masked": masked_teacher, "other": other_teacher}[name] for name in teachers]
    options = ["--masked-passes", passes, "--masked-temperature", temperature, "--top-k", top_k, "--gen-subset"]
    folder = build(tmp_path / "out", words, ":".join(map(str, paths)), *options, "valid")
    task = task_of_data(str(words))
    checked = 0
    slow = slow_form(paths, "valid", passes, temperature, top_k)
    for rows, (found, log_q, log_rest) in zip(slow, read_store(folder, task, "valid"), strict=True):
        assert len(rows) == len(found)
        assert log_rest[:-1].eq(-math.inf).all()
        assert found[-1].eq(-1).all()  # the end of the sentence
        for row, at, of in zip(rows[:-1], found.tolist(), log_q.tolist(), strict=False):
            if sorted(at) == sorted(row):  # near ties may swap the last word
                checked += 1
                assert [math.exp(value) for value in of] == pytest.approx([row[word] for word in at], abs=1e-3)
            else:
                assert len(set(at) ^ set(row)) == 2
                assert min(map(math.exp, of)) == pytest.approx(min(row.values()), abs=1e-3)
        assert rows[-1] is None
    assert checked > 150


def test_the_rest_of_the_target_changes_the_predictions(words, masked_teacher, store, tmp_path):
    """With one pass all words are masked, so the model sees the source alone."""
    blind = build(tmp_path / "out", words, masked_teacher, "--masked-passes", 1, "--gen-subset", "valid")
    task = task_of_data(str(words))
    pairs = zip(read_store(store, task, "valid"), read_store(blind, task, "valid"), strict=True)
    assert any(not torch.equal(seeing[0], other[0]) for seeing, other in pairs)


def test_the_batches_do_not_matter(words, masked_teacher, store, tmp_path):
    other = build(tmp_path / "out", words, masked_teacher, "--max-tokens", 50, "--gen-subset", "valid")
    task = task_of_data(str(words))
    for ours, theirs in zip(read_store(other, task, "valid"), read_store(store, task, "valid"), strict=True):
        torch.testing.assert_close(ours[1], theirs[1], atol=2e-3, rtol=0, equal_nan=True)
        assert (ours[0] == theirs[0]).float().mean() > 0.9  # but for ties


def test_a_rerun_and_two_workers_write_the_same_bytes(words, masked_teacher, tmp_path):
    options = masked.Options()
    for out, workers in (("one", 1), ("two", 2), ("one", 1)):
        for worker in range(workers):
            task, source = masked.open_source(str(words), str(masked_teacher), options)
            build_cache(task, source, tmp_path / out, 8, ["valid"], worker=worker, workers=workers, block_sentences=5)
        if out == "one":
            next((tmp_path / "one/valid").glob("*.safetensors")).unlink()
    assert len(contents(tmp_path / "one")) >= 5
    task, source = masked.open_source(str(words), str(masked_teacher), options)
    build_cache(task, source, tmp_path / "one", 8, ["valid"], block_sentences=5)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_longest_sentences_that_fit_have_predictions_and_longer_ones_none(words, masked_teacher, tmp_path):
    task, source = masked.open_source(str(words), str(masked_teacher), masked.Options())
    lengths = [len(target) for _, target in sentences(task, "valid")]
    longest = sorted(set(lengths))[-2]
    source.teacher.models[0].decoder.max_target_positions = longest + 1  # and the symbol at the beginning
    build_cache(task, source, tmp_path, 8, ["valid"])
    found = [len(words) for words, _, _ in read_store(tmp_path, task, "valid")]
    assert found == [length if length <= longest else 0 for length in lengths]


def test_a_student_trains_from_a_masked_teacher_that_beats_chance(words, store, tmp_path):
    task = task_of_data(str(words))
    listed = tokens = 0
    for (_, target), (found, _, _) in zip(sentences(task, "train"), read_store(store, task, "train"), strict=True):
        listed += int((found == target[:, None]).any(-1).sum())
        tokens += len(target) - 1
    assert listed / tokens > 20 * 8 / len(task.target_dictionary)  # 20 times the share of a random guess of 8 words
    flags = ["--criterion", "word_kd", "--teacher-cache", store, "--label-smoothing", "0.1", "--max-update", "12"]
    run = train_here(words, tmp_path, *flags)
    assert tokens > 12 * 300 > ChanceCheck.TOKENS  # so the teacher was checked
    coverage = run.values("train_inner", "teacher_coverage")
    assert all(70 < percent < 99.9 for percent in coverage)  # not the end of the sentence
    assert run.values("train_inner", "kd_loss")[-1] < run.values("train_inner", "kd_loss")[0]


@pytest.fixture(scope="module")
def plain_teacher(words, tmp_path_factory):
    flags = ["--criterion", "label_smoothed_cross_entropy", "--disable-validation", "--max-update", "1"]
    return train_here(words, tmp_path_factory.mktemp("plain"), *flags).save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def full_mask_teacher(words, tmp_path_factory):
    flags = [*MASKED_TRAINING, "--noise", "full_mask", "--max-update", "1"]
    run = train_here(words, tmp_path_factory.mktemp("full_mask"), *flags, architecture=MASKED_MODEL)
    return run.save_dir / "checkpoint_last.pt"


def test_a_masked_teacher_starts_from_a_translation_model_of_its_shape(words, masked_teacher, tmp_path):
    translator = ["--arch", "transformer", *MASKED_MODEL[2:]]
    flags = ["--criterion", "label_smoothed_cross_entropy", "--disable-validation", "--max-update", "1"]
    start = train_here(words, tmp_path / "translator", *flags, architecture=translator).save_dir / "checkpoint_last.pt"
    flags = [*MASKED_TRAINING, "--finetune-from-model", start, "--lr", "0", "--max-update", "1"]
    masked_run = train_here(words, tmp_path / "masked", *flags, architecture=MASKED_MODEL)
    before, after = (Run(path).checkpoint()["model"] for path in (start.parent, masked_run.save_dir))
    assert set(after) - set(before) == {"decoder.embed_length.weight"}
    assert after.pop("decoder.embed_length.weight").shape == (256, 32)
    for name, weights in after.items():
        assert weights.equal(before[name]), name
    saved = Run(masked_teacher.parent).checkpoint()["model"]
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(masked_teacher)])
    assert model.decoder.embed_length.weight.equal(saved["decoder.embed_length.weight"])  # its own
    assert saved["decoder.embed_length.weight"].std() > 0
    with pytest.raises(Exception, match="please ensure that the architectures match"):
        train_here(words, tmp_path / "other", *flags, "--encoder-ffn-embed-dim", "16", architecture=MASKED_MODEL)


def refusal(*arguments):
    with pytest.raises(UserError) as error:
        main(["cache", *map(str, arguments)])
    return str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--masked-passes", "0"], "--masked-passes is 0; it must be 1 or more"),
        (["--masked-temperature", "0"], "--masked-temperature is 0.0; it must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(words, masked_teacher, tmp_path, flags, message):
    assert refusal(words, "--source", "masked", "--teacher-path", masked_teacher, *flags, tmp_path / "x") == message


def test_options_of_a_masked_teacher_are_refused_for_another(words, plain_teacher, tmp_path):
    assert refusal(words, "--teacher-path", plain_teacher, "--masked-passes", 3, tmp_path / "x") == (
        "--masked-passes is an option of --source masked, not of --source checkpoint"
    )


def test_other_models_are_refused_as_masked_teachers(words, plain_teacher, full_mask_teacher, tmp_path):
    masked_source = [words, tmp_path / "x", "--source", "masked", "--teacher-path"]
    assert refusal(*masked_source, plain_teacher) == (
        f"teacher {plain_teacher} is not a masked model (transformer_iwslt_de_en); "
        "give one with --arch cmlm_transformer"
    )
    assert refusal(*masked_source, full_mask_teacher) == (
        f"teacher {full_mask_teacher} was trained with --noise full_mask; train it with --noise random_mask"
    )


def test_masked_models_are_refused_where_a_teacher_predicts_word_by_word(words, masked_teacher, tmp_path):
    message = (
        f"teacher {masked_teacher} does not predict word by word (cmlm_transformer); if it is a cmlm_transformer, "
        "write its predictions with nmt-kd cache --source masked, and train with --teacher-cache"
    )
    assert refusal(words, "--teacher-path", masked_teacher, tmp_path / "x") == message
    with pytest.raises(UserError) as error:
        train_here(words, tmp_path, "--criterion", "word_kd", "--teacher-path", masked_teacher, "--max-update", "1")
    assert str(error.value) == message


def test_a_teacher_of_other_data_is_refused(data, masked_teacher, tmp_path):
    message = refusal(data, "--source", "masked", "--teacher-path", masked_teacher, tmp_path / "x")
    assert "was trained with another source dictionary" in message


def test_a_store_is_not_resumed_with_other_settings(words, masked_teacher, store):
    teacher = ["--source", "masked", "--teacher-path", masked_teacher]
    for flags in (["--masked-passes", 3], ["--masked-temperature", 2]):
        assert "masked, " in refusal(words, *teacher, *flags, store)


def test_the_first_symbol_is_put_before_each_sentence_on_either_side_of_the_padding():
    tokens = torch.tensor([[1, 1, 7, 2], [5, 6, 7, 2], [5, 2, 1, 1]])
    expected = [[1, 1, 0, 7, 2], [0, 5, 6, 7, 2], [0, 5, 2, 1, 1]]
    assert masked.with_first(tokens, 0, 1).tolist() == expected
