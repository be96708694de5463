import sys

import pytest
from conftest import ROOT, run_command

from nmt_kd.errors import UserError
from nmt_kd.version import check_fairseq_version


@pytest.mark.parametrize("version", ["0.10.2", "1.0.0a0"])
def test_an_unsupported_fairseq_is_refused_with_installation_advice(version):
    with pytest.raises(UserError, match=rf"fairseq {version} is not supported.*pip install fairseq-fixed") as error:
        check_fairseq_version(version)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", ["0.12.2", "0.12.3.1"])
def test_supported_versions_of_fairseq_are_accepted(version):
    check_fairseq_version(version)


def test_importing_the_plugin_with_an_unsupported_fairseq_ends_in_one_line(tmp_path):
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq/__init__.py").write_text('__version__ = "0.10.2"\n')
    path = f"{tmp_path}:{ROOT}"
    result = run_command(sys.executable, "-c", "import nmt_kd", environment={"PYTHONPATH": path})
    assert result.returncode == 1
    assert result.stderr.startswith("nmt_kd: error: fairseq 0.10.2 is not supported")
    assert len(result.stderr.splitlines()) == 1
