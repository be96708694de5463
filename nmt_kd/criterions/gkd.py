"""On-policy distillation (GKD, Agarwal et al., 2024): the student learns from the teacher on its own samples."""

from dataclasses import dataclass

import torch
from fairseq.criterions import register_criterion

from nmt_kd.criterions.base import DistillationCriterion, TeacherConfig
from nmt_kd.engine.predictions import TopWords


@dataclass
class OnPolicyConfig(TeacherConfig):
    pass


@register_criterion("on_policy", dataclass=OnPolicyConfig)
class OnPolicy(DistillationCriterion):
    """`KL(teacher || student)` on targets sampled from the student, each at most as long as the reference."""

    needs = TopWords(1, at_new_prefixes=True)

    @torch.no_grad()
    def prepare(self, model, sample):
        net_input, pad = sample["net_input"], self.padding_idx
        inputs, room = net_input["prev_output_tokens"][:, :1], sample["target"].ne(pad)
        # a sentence's samples depend on nothing but its number and the update, so not on the batch or the worker
        seeds = [hash((number, self.progress.updates)) for number in sample["id"].tolist()]
        generators = [torch.Generator().manual_seed(seed % 2**31) for seed in seeds]
        was_training = model.training
        model.eval()
        encoder_out = model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        for position in range(room.size(1)):
            scores = model.decoder(inputs, encoder_out=encoder_out)[0][:, -1].float()
            scores[:, pad] = -torch.inf
            noise = torch.stack([torch.rand(scores.size(1), generator=generator) for generator in generators])
            words = (scores - noise.log().neg().log().to(scores.device)).argmax(-1)  # Gumbel's: as softmax has them
            ended = (inputs[:, 1:] == self.task.target_dictionary.eos()).any(1) | ~room[:, position]
            inputs = torch.cat([inputs, words.masked_fill(ended, pad).unsqueeze(1)], dim=1)
        model.train(was_training)
        target = inputs[:, 1:]
        inputs = inputs[:, :-1].masked_fill(target == pad, pad)
        net_input = {**net_input, "prev_output_tokens": inputs}
        return {**sample, "target": target, "ntokens": int(target.ne(pad).sum()), "net_input": net_input}

    def token_losses(self, chunk):
        return {"kd_loss": chunk.teacher.divergence(chunk.student_log_p)}

    def loss_weights(self, batch):
        return {"ce_loss": 0.0, "kd_loss": 1.0}
