import pytest
from conftest import TINY_TRANSFORMER, parse_training

from nmt_kd.checkpoints.task import task_on
from nmt_kd.errors import UserError


def test_data_in_other_languages_names_the_missing_dictionary(data, tmp_path):
    configuration = parse_training([data, *TINY_TRANSFORMER, "--source-lang", "en", "--target-lang", "de"])
    assert task_on("teacher.pt", configuration, str(data)).cfg.target_lang == "de"
    for language in ("en", "fr"):
        (tmp_path / f"dict.{language}.txt").touch()
    with pytest.raises(UserError) as error:
        task_on("teacher.pt", configuration, str(tmp_path))
    what_to_do = "it has no dict.de.txt; give data in the same languages"
    assert str(error.value) == f"{tmp_path} is not in the languages of teacher.pt: {what_to_do}"
