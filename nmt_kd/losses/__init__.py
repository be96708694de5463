"""Loss functions: formulas on tensors of non-padding tokens, one value per token, independent of fairseq.

Softmax and logarithms are computed in float32 (float64 for float64 inputs), whatever the precision of the inputs;
logarithms are natural. Sums over tokens are taken in one place, `nmt_kd.engine.chunks.SummedLoss`.
"""
