"""How translations are searched for or sampled, whatever the teacher is."""

from dataclasses import dataclass

from nmt_kd.options import ABOVE_0, AT_LEAST_0, AT_LEAST_1, require


@dataclass(frozen=True)
class Search:
    """A beam search, or sampling if `sampling_topk` is given."""

    beam: int | None = None  # 4 if not given
    nbest: int = 1
    lenpen: float = 1.0
    max_len: int = 200  # tokens of a translation
    sampling_topk: int | None = None  # 0 samples from the whole vocabulary
    sampling_temperature: float = 1.0
    seed: int = 1

    @property
    def is_sampling(self) -> bool:
        """Whether translations are sampled."""
        return self.sampling_topk is not None

    @property
    def width(self) -> int:
        """The beam size, or the number of samples."""
        return self.nbest if self.is_sampling else 4 if self.beam is None else self.beam

    def check(self) -> None:
        """Raise UserError for a value that is not allowed."""
        for flag, value, allowed in (
            ("--nbest", self.nbest, AT_LEAST_1),
            ("--beam", self.width, AT_LEAST_1),
            ("--max-len", self.max_len, AT_LEAST_1),
            ("--sampling-topk", self.sampling_topk or 0, AT_LEAST_0),
            ("--sampling-temperature", self.sampling_temperature, ABOVE_0),
        ):
            allowed.check(flag, value)
        if self.is_sampling:
            instead = "left out, since --sampling-topk samples; --nbest is the number of samples"
            require(self.beam is None, "--beam", self.beam, instead)
        else:
            allowed_words = f"from 1 to {self.width}, since --beam is {self.width}"
            require(self.nbest <= self.width, "--nbest", self.nbest, allowed_words)
            instead = "left out, since without --sampling-topk nothing is sampled"
            require(self.sampling_temperature == 1, "--sampling-temperature", self.sampling_temperature, instead)

    def settings(self) -> dict:
        """Return the settings that the manifest stores."""
        if not self.is_sampling:
            return {"beam": self.width, "nbest": self.nbest, "lenpen": self.lenpen, "max_len": self.max_len}
        return {
            "sampling_topk": self.sampling_topk,
            "sampling_temperature": self.sampling_temperature,
            "seed": self.seed,
            "nbest": self.nbest,
            "lenpen": self.lenpen,
            "max_len": self.max_len,
        }
