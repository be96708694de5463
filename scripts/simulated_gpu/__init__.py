"""A CUDA device without a GPU: it computes shapes, types, memory, bytes and FLOPs of training steps, and no values.

    from simulated_gpu import guard

    guard.load()  # before torch is imported, so this needs a process of its own
    from simulated_gpu import patches

    patches.apply()  # before fairseq and nmt_kd are imported
    from simulated_gpu import ...

| module      | purpose                                                              |
|-------------|----------------------------------------------------------------------|
| `guard`     | registers the device with torch; needs g++ once                      |
| `patches`   | makes torch behave as it does with a GPU                             |
| `recorder`  | runs operations without values and records their costs               |
| `transfers` | operations for which the CPU waits for the GPU                       |
| `values`    | the integers and masks that follow from a batch, such as padding     |
| `dtypes`    | operations with dtypes that are wrong, slow or not precise enough    |
| `costs`     | bytes, FLOPs and time of an operation                                |
| `memory`    | the memory of tensors that are alive                                 |
| `places`    | which code, and which part of a training step, runs an operation     |
| `systems`   | every method with the flags that make a step do its work             |
| `workplace` | data, models, a cache and a batch to take a step with                |
| `steps`     | a training step or a validation step in each precision               |
| `updates`   | updates by fairseq's own trainer                                     |
| `gradients` | checks of the gradients after a step or an update                    |
| `workers`   | the same as one of several workers                                   |
"""
