"""The sample is spread over the subset and deterministic."""

from conftest import TINY_TRANSFORMER, parse_training

from nmt_kd.exporting.sample import Measurement, Sample


def test_the_sample_is_spread_over_the_subset_and_always_the_same(task):
    model = task.build_model(parse_training([task.cfg.data, *TINY_TRANSFORMER]).model)
    chosen = {
        count: Sample.choose(task, Measurement(sentences=count), [model]).numbers.tolist() for count in (0, 5, 13, 99)
    }
    assert sorted(chosen[0]) == sorted(chosen[13]) == sorted(chosen[99]) == list(range(13))
    assert sorted(chosen[5]) == [0, 2, 5, 7, 10]
    sizes = task.dataset("test").src_sizes[chosen[13]]
    assert sorted(sizes, reverse=True) == sizes.tolist()
