"""Loss functions: logits of the non-padding tokens in, one value a token out. Nothing here knows fairseq.

Softmax and logarithms are computed in float32 (float64 for float64 inputs), whatever the precision of the logits;
logarithms are natural. Reduction happens in one place, `projection.chunked_objective`.
"""
