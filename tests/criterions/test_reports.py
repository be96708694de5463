"""What the log says of a training."""

import pytest
from fairseq.logging import metrics

from nmt_kd.criterions.reports import log_averages


def test_the_coverage_counts_only_tokens_whose_prediction_was_asked_for(build):
    """With --ignore-prefix-size, there are more tokens than those."""
    with metrics.aggregate() as logged:
        log_averages([{"ntokens": 10, "sample_size": 10, "n_unknown": 6, "n_asked": 8}], {})
    assert logged["teacher_coverage"].avg == 25


@pytest.mark.parametrize(("method", "named"), [("word_kd", False), ("online_kd", True)])
def test_the_signature_names_the_validation_set_of_methods_that_learn_from_it(build, method, named):
    criterion, _ = build(method, "--valid-subset", "valid,test")
    assert ("valid_subset:valid,test" in criterion.signature) == named
