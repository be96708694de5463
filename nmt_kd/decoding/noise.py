"""Add typing errors and unusual capitals to sources, so that the student copes with what users type."""

import re
from dataclasses import dataclass, fields
from random import Random

from nmt_kd.options import SHARE, option

FINAL_STOPS = (".", "\u3002")
WORDS_PER_TYPO = 10
ENTITY = re.compile(r"(&#?\w+;)")  # such as &apos; in tokenised text


@dataclass(frozen=True)
class Noise:
    """The probability of each kind of noise in a sentence; the help has those of the training of Firefox's students."""

    noise_upper_case: float = option(0.0, "share of sources to write in upper case (Firefox uses 0.07)", SHARE)
    noise_title_case: float = option(0.0, "share of sources to write with capitalised words (Firefox uses 0.05)", SHARE)
    noise_typos: float = option(
        0.0, "share of sources with typos: one, plus one more per ten words (Firefox uses 0.05)", SHARE
    )
    noise_no_final_stop: float = option(0.0, "share of sources whose final stop is removed (Firefox uses 0.2)", SHARE)

    def settings(self, seed: int) -> dict[str, float]:
        """Return the settings that determine the noise; an empty dict if there is no noise."""
        shares = {field.name: value for field in fields(self) if (value := getattr(self, field.name))}
        return {**shares, "noise_seed": seed} if shares else {}

    def __call__(self, text: str, seed: int, number: int) -> str:
        """Return `text`, the sentence of this number, with noise that depends on nothing but the arguments."""
        random = Random(f"{seed} {number}")
        # all are drawn, so that a kind of noise hits the same sentences whatever the other probabilities are
        upper_case, title_case, typos, no_final_stop = (random.random() for _ in range(4))
        if no_final_stop < self.noise_no_final_stop and text.endswith(FINAL_STOPS):
            text = text[:-1].rstrip() or text
        if typos < self.noise_typos:
            text = _with_typos(text, random)
        if upper_case < self.noise_upper_case:
            return "".join(part if ENTITY.fullmatch(part) else part.upper() for part in ENTITY.split(text))
        if title_case < self.noise_title_case:
            return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
        return text


def _with_typos(text: str, random: Random) -> str:
    """Change a word in ten, and at least one, if there are words of four letters or more."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for index in random.sample(long, min(len(long), 1 + len(words) // WORDS_PER_TYPO)):
        words[index] = _misspelt(words[index], random)
    return " ".join(words)


def _misspelt(word: str, random: Random) -> str:
    """Swap two neighbouring letters, leave out a letter, or write one twice; the first letter stays."""
    place = random.randrange(1, len(word) - 1)
    before, one, two, after = word[:place], word[place], word[place + 1], word[place + 2 :]
    return before + random.choice((two + one, two, one + one + two)) + after
