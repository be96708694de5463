"""How far the student's distribution is from the teacher's."""

from torch import Tensor

from nmt_kd.losses.precision import at_least_float32


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """`KL(q || p) = sum_v q_v (log q_v - log p_v)` of word-level distillation (Kim & Rush, 2016, eq. 4), in nats.

    `q` is the teacher's softmax and `p` the student's, both of logits divided by `temperature`; the divergence is
    multiplied by its square, so that gradients keep their size (Hinton et al., 2015). Both logits are [tokens, V];
    returns [tokens] in float32. Exact: no epsilon inside the logarithms. Gradients reach the student alone.
    """
    student = at_least_float32(student_logits)
    teacher = at_least_float32(teacher_logits.detach())
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    teacher_normaliser = teacher.logsumexp(-1)
    q = (teacher - teacher_normaliser.unsqueeze(-1)).exp()
    # log q - log p = (z_t - z_s) + (normaliser of s - normaliser of t), and q sums to one
    divergence = (q * (teacher - student)).sum(-1) + student.logsumexp(-1) - teacher_normaliser
    return divergence * temperature**2
