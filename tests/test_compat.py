import shutil

import numpy
import pytest
from fairseq.data import data_utils
from fairseq.file_io import PathManager


@pytest.mark.parametrize("sentences", [0, 1, 7, 8, 13, 500])
@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_contain_every_sentence_once_and_in_order(sentences, multiple):
    lengths = numpy.sort(numpy.random.default_rng(0).integers(1, 60, sentences))
    batches = data_utils.batch_by_size(
        numpy.arange(sentences),
        lambda index: lengths[index],
        num_tokens_vec=lengths,
        max_tokens=300,
        required_batch_size_multiple=multiple,
    )
    assert [index for batch in batches for index in batch] == list(range(sentences))
    assert all(len(batch) * lengths[batch].max() <= 300 for batch in batches)


def test_an_interrupted_copy_leaves_the_earlier_checkpoint_intact(tmp_path, monkeypatch):
    last, new = tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint_1_500.pt"
    last.write_bytes(b"the checkpoint before")
    new.write_bytes(b"a newer checkpoint")

    def killed(source, destination, size):
        destination.write(source.read(5))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", killed)
        with pytest.raises(KeyboardInterrupt):
            PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"the checkpoint before"
    assert PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_bytes() == b"a newer checkpoint"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_1_500.pt", "checkpoint_last.pt"]
