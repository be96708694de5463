"""CTranslate2's search on the tokens of any converted model."""

import math
from pathlib import Path

from nmt_kd.decoding.ctranslate2_backend import batch_tokens, load_translator
from nmt_kd.errors import UserError, in_one_line
from nmt_kd.translators.search import Search
from nmt_kd.workers import device_of_worker

AT_THE_LIMIT = "translations cut at --max-len"


class CTranslate2Search:
    """Beam search or sampling with the model in a folder."""

    def __init__(self, folder: Path, search: Search, compute_type: str, max_tokens: int):
        self.folder, self.search, self.compute_type = folder, search, compute_type
        self.device = device_of_worker().type
        self.max_tokens = batch_tokens(max_tokens, self.device)
        self.translator = self._load()
        self.cut = 0

    @property
    def precision(self) -> str:
        """The precision of the arithmetic."""
        return self.translator.compute_type

    def _load(self):
        # one worker: with several, it is random which one samples a sentence, and so which random numbers it gets
        return load_translator(self.folder, self.device, self.compute_type, one_worker=self.search.is_sampling)

    def translate(
        self, sources: list[list[str]], seed: int, prefix: list[str] | None = None, max_len: int | None = None
    ) -> list[list[tuple[float, list[str]]]]:
        """Return for each list of tokens the scores and tokens of its n-best list, without the `prefix` of all.

        Raises UserError if the model cannot read a source.
        """
        search, limit = self.search, min(max_len or self.search.max_len, self.search.max_len)
        options: dict = {"beam_size": search.width}
        if search.sampling_topk is not None:
            options = {"beam_size": 1, "sampling_topk": search.sampling_topk}
            options["sampling_temperature"] = search.sampling_temperature
            self._reseed(seed)
        try:
            results = self.translator.translate_batch(
                sources,
                target_prefix=[prefix] * len(sources) if prefix else None,
                num_hypotheses=search.nbest,
                length_penalty=search.lenpen,
                max_decoding_length=limit,
                max_input_length=0,
                return_scores=True,
                max_batch_size=self.max_tokens,
                batch_type="tokens",
                **options,
            )
        except RuntimeError as error:
            what_to_do = "if a source is too long, lower --max-source-len"
            raise UserError(f"CTranslate2 cannot translate: {in_one_line(error)}; {what_to_do}") from None
        lists = []
        for found in results:
            hypotheses = zip(found.scores, found.hypotheses, strict=True)
            best_first = sorted(hypotheses, key=lambda hypothesis: -hypothesis[0])
            lists.append([(score, tokens[len(prefix or ()) :]) for score, tokens in best_first])
            self.cut += sum(len(tokens) >= limit for tokens in found.hypotheses)
        return lists

    def score(
        self, sources: list[list[str]], targets: list[list[str]], longest: int, prefix: list[str] | None = None
    ) -> list[float]:
        """Return the mean log-probability of the tokens of each target and its end, without the `prefix` of all.

        It is minus infinity where a side has more than `longest` tokens. Raises UserError if the model fails.
        """
        prefix = prefix or []
        readable = [
            number
            for number, (source, target) in enumerate(zip(sources, targets, strict=True))
            if max(len(source), len(prefix) + len(target)) <= longest
        ]
        scores = [-math.inf] * len(sources)
        try:
            results = self.translator.score_batch(
                [sources[number] for number in readable],
                [[*prefix, *targets[number]] for number in readable],
                max_batch_size=self.max_tokens,
                batch_type="tokens",
                max_input_length=0,
                offset=len(prefix),
            )
        except RuntimeError as error:
            raise UserError(f"CTranslate2 cannot score: {in_one_line(error)}") from None
        for number, result in zip(readable, results, strict=True):
            scores[number] = sum(result.log_probs) / len(result.log_probs)
        return scores

    def _reseed(self, seed: int) -> None:
        """Start new threads: a thread of CTranslate2 takes the seed when it first samples, and never again."""
        import ctranslate2

        ctranslate2.set_random_seed(seed)
        self.translator = self._load()
