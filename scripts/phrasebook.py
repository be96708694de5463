"""Generate a small English-German corpus: sentences with numbers, dates, times and prices in words.

    python scripts/phrasebook.py OUT_DIR --train 1200 --valid 300 --test 500

Rules generate the translations, so a corpus of any size can be made offline, yet a model has to learn real phenomena of
translation: German puts units before tens in one long word, says "halb sieben" for half past six, inflects articles and
adjectives by gender and case, splits verbs, and moves them to the end of subordinate clauses. As in real text, the
reference is only one of many correct translations: a sentence may start with the time, Saturday is "Samstag" or
"Sonnabend", and "because" is "weil" or "denn", each with its own word order. Writes OUT_DIR/{train,valid,test}.{en,de};
no test or validation sentence occurs in the training set. The same seed gives the same corpus.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------

UNITS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen".split(),
    "de": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn".split(),
}
TENS = {
    "en": "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split(),
    "de": "_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split(),
}
ENGLISH_ORDINALS = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth"}
GERMAN_ORDINALS = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}


def english_number(number: int) -> str:
    """Return a number below a million in English words, such as "four hundred and twenty-seven"."""
    if number < 20:
        return UNITS["en"][number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return TENS["en"][tens] + (f"-{UNITS['en'][unit]}" if unit else "")
    size, word = (100, "hundred") if number < 1000 else (1000, "thousand")
    count, rest = divmod(number, size)
    joint = " and " if rest < 100 else " "
    return f"{english_number(count)} {word}" + (joint + english_number(rest) if rest else "")


def german_number(number: int, final: bool = True) -> str:
    """Return a number below a million in German, such as "vierhundertsieben"; `final` means that nothing follows it."""
    if number == 1 and not final:
        return "ein"
    if number < 20:
        return UNITS["de"][number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return (f"{german_number(unit, final=False)}und" if unit else "") + TENS["de"][tens]
    size, word = (100, "hundert") if number < 1000 else (1000, "tausend")
    count, rest = divmod(number, size)
    return german_number(count, final=False) + word + (german_number(rest) if rest else "")


def english_ordinal(day: int) -> str:
    if day >= 20 and day % 10:
        return f"{TENS['en'][day // 10]}-{english_ordinal(day % 10)}"
    if day in ENGLISH_ORDINALS:
        return ENGLISH_ORDINALS[day]
    word = UNITS["en"][day] if day < 20 else TENS["en"][day // 10]
    return word.removesuffix("y") + ("ieth" if word.endswith("y") else "th")


def german_ordinal(day: int) -> str:
    """Return an ordinal in the dative, as after "am": "dritten"."""
    return GERMAN_ORDINALS.get(day) or german_number(day) + ("ten" if day < 20 else "sten")


def english_year(year: int) -> str:
    if 2000 <= year < 2010:
        return english_number(year)
    century, rest = divmod(year, 100)
    if rest < 10:
        return f"{english_number(century)} hundred" + (f" and {english_number(rest)}" if rest else "")
    return f"{english_number(century)} {english_number(rest)}"


def german_year(year: int) -> str:
    if year >= 2000:
        return german_number(year)
    century, rest = divmod(year, 100)
    return f"{german_number(century)}hundert" + (german_number(rest) if rest else "")


# ---------------------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------------------

THINGS = [
    ("table", "Tisch", "m"), ("coat", "Mantel", "m"), ("chair", "Stuhl", "m"), ("hat", "Hut", "m"),
    ("cupboard", "Schrank", "m"), ("lamp", "Lampe", "f"), ("bag", "Tasche", "f"), ("clock", "Uhr", "f"),
    ("cup", "Tasse", "f"), ("bottle", "Flasche", "f"), ("book", "Buch", "n"), ("bicycle", "Fahrrad", "n"),
    ("knife", "Messer", "n"), ("picture", "Bild", "n"), ("dress", "Kleid", "n"),
]  # fmt: skip
QUALITIES = [
    ("red", "rot"), ("old", "alt"), ("new", "neu"), ("small", "klein"), ("big", "groß"), ("blue", "blau"),
    ("green", "grün"), ("white", "weiß"), ("black", "schwarz"), ("beautiful", "schön"), ("heavy", "schwer"),
]  # fmt: skip
PEOPLE = [
    ("my brother", "mein Bruder"), ("my sister", "meine Schwester"), ("the doctor", "der Arzt"), ("Anna", "Anna"),
    ("the teacher", "die Lehrerin"), ("our neighbour", "unser Nachbar"), ("Peter", "Peter"),
    ("her daughter", "ihre Tochter"), ("his friend", "sein Freund"), ("the student", "die Studentin"),
]  # fmt: skip
CITIES = [
    ("Hamburg", "Hamburg"), ("Munich", "München"), ("Vienna", "Wien"), ("Cologne", "Köln"), ("Zurich", "Zürich"),
    ("Berlin", "Berlin"), ("Nuremberg", "Nürnberg"), ("Geneva", "Genf"), ("Prague", "Prag"), ("Rome", "Rom"),
]  # fmt: skip
WEEKDAYS = [
    ("Monday", "Montag"), ("Tuesday", "Dienstag"), ("Wednesday", "Mittwoch"), ("Thursday", "Donnerstag"),
    ("Friday", "Freitag"), ("Saturday", "Samstag"), ("Sunday", "Sonntag"),
]  # fmt: skip
MONTHS = [
    ("January", "Januar"), ("February", "Februar"), ("March", "März"), ("April", "April"), ("May", "Mai"),
    ("June", "Juni"), ("July", "Juli"), ("August", "August"), ("September", "September"), ("October", "Oktober"),
    ("November", "November"), ("December", "Dezember"),
]  # fmt: skip
PARTS_OF_DAY = [
    ("in the morning", "morgens"), ("in the afternoon", "nachmittags"), ("in the evening", "abends"),
    ("at night", "nachts"),
]  # fmt: skip
DEFINITE = {"m": "der", "f": "die", "n": "das"}
INDEFINITE_OBJECT = {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}


# ---------------------------------------------------------------------------------------------------------------------
# Phrases and sentences
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clause:
    """An English clause and the parts of its German translation, from which each word order is formed."""

    english: str
    subject: str
    verb: str
    time: str = ""  # may precede the verb instead of the subject
    rest: str = ""
    particle: str = ""  # "ab" in "fährt ... ab"; precedes the verb, as in "abfährt", in a subordinate clause
    participle: str = ""  # "geboren" in "wurde ... geboren"

    def main(self, time_first: bool) -> str:
        if time_first and self.time:
            return _words(self.time, self.verb, self.subject, self.rest, self.particle, self.participle)
        return _words(self.subject, self.verb, self.time, self.rest, self.particle, self.participle)

    def subordinate(self) -> str:
        return _words(self.subject, self.time, self.rest, self.participle, self.particle + self.verb)


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


USUAL = 0.7  # how often the more common of two correct translations is used


def either(draw: random.Random, usual: str, other: str) -> str:
    """Return one of two correct translations."""
    return usual if draw.random() < USUAL else other


def clock_time(draw: random.Random) -> tuple[str, str]:
    hour, minute = draw.randint(1, 12), draw.randrange(0, 60, 5)
    part = draw.choice(PARTS_OF_DAY)
    following = hour % 12 + 1
    english_hours = UNITS["en"][hour], UNITS["en"][following]
    german_hours = UNITS["de"][hour], UNITS["de"][following]
    amounts = {15: ("a quarter", "Viertel")}
    before_half = {25: "fünf vor halb", 30: "halb", 35: "fünf nach halb"}
    if minute == 0:
        english, german = f"{english_hours[0]} o'clock", f"{'ein' if hour == 1 else german_hours[0]} Uhr"
    elif minute <= 30:
        amount = amounts.get(minute, (english_number(minute), german_number(minute)))
        english = f"{'half' if minute == 30 else amount[0]} past {english_hours[0]}"
        german = f"{amount[1]} nach {german_hours[0]}"
    else:
        amount = amounts.get(60 - minute, (english_number(60 - minute), german_number(60 - minute)))
        english, german = f"{amount[0]} to {english_hours[1]}", f"{amount[1]} vor {german_hours[1]}"
    if minute in before_half:
        german = f"{before_half[minute]} {german_hours[1]}"
    if minute:
        german = either(draw, german, f"{'ein' if hour == 1 else german_hours[0]} Uhr {german_number(minute)}")
    return f"at {english} {part[0]}", f"um {german} {part[1]}"


def date(draw: random.Random) -> tuple[str, str]:
    weekday, month = draw.choice(WEEKDAYS), draw.choice(MONTHS)
    day, year = draw.randint(1, 28), draw.randint(1900, 2029)
    german_weekday = either(draw, "Samstag", "Sonnabend") if weekday[1] == "Samstag" else weekday[1]
    english = f"on {weekday[0]} the {english_ordinal(day)} of {month[0]} {english_year(year)}"
    return english, f"am {german_weekday}, dem {german_ordinal(day)} {month[1]} {german_year(year)}"


def price(draw: random.Random) -> tuple[str, str]:
    euros, cents = draw.randint(2, 10 ** draw.randint(1, 4)), draw.randint(2, 99)
    english, german = f"{english_number(euros)} euros", f"{german_number(euros)} Euro"
    if draw.random() < 0.5:
        return english, german
    german = either(draw, f"{german} und {german_number(cents)} Cent", f"{german} {german_number(cents)}")
    return f"{english} and {english_number(cents)} cents", german


def clause(draw: random.Random) -> Clause:
    """Return a random clause, of one of seven kinds, about a thing, a person or a city."""
    person, city = draw.choice(PEOPLE), draw.choice(CITIES)
    thing, noun, gender = draw.choice(THINGS)
    quality, adjective = draw.choice(QUALITIES)
    article, ending = INDEFINITE_OBJECT[gender]
    if noun == "Fahrrad":
        noun = either(draw, noun, "Rad")
    kind = draw.randrange(7)
    if kind == 0:
        cost = price(draw)
        subject = f"{DEFINITE[gender]} {adjective}e {noun}"
        return Clause(f"the {quality} {thing} costs {cost[0]}", subject, "kostet", rest=cost[1])
    if kind == 1:
        cost = price(draw)
        a = "an" if quality[0] in "aeiou" else "a"
        bought = f"{article} {adjective}{ending} {noun} für {cost[1]}"
        return Clause(
            f"{person[0]} buys {a} {quality} {thing} for {cost[0]}",
            person[1],
            either(draw, "kauft", "erwirbt"),
            rest=bought,
        )
    if kind == 2:
        at, um = clock_time(draw)
        return Clause(f"the train to {city[0]} leaves {at}", f"der Zug nach {city[1]}", "fährt", um, particle="ab")
    if kind == 3:
        on, am = date(draw)
        return Clause(f"{person[0]} was born {on} in {city[0]}", person[1], "wurde", am, f"in {city[1]}", "", "geboren")
    if kind == 4:
        on, am = date(draw)
        return Clause(f"{person[0]} flies to {city[0]} {on}", person[1], "fliegt", am, f"nach {city[1]}")
    if kind == 5:
        people = draw.randint(2, 10 ** draw.randint(3, 6) - 1)
        english = f"{english_number(people)} people live in {city[0]}"
        subject = f"{german_number(people)} {either(draw, 'Menschen', 'Leute')}"
        return Clause(english, subject, either(draw, "leben", "wohnen"), rest=f"in {city[1]}")
    at, um = clock_time(draw)
    english = f"{person[0]} comes back from {city[0]} {at}"
    return Clause(english, person[1], either(draw, "kommt", "kehrt"), um, f"aus {city[1]}", "zurück")


def sentence(draw: random.Random) -> tuple[str, str]:
    """Return a random English sentence and its German translation."""
    first, kind, time_first = clause(draw), draw.randrange(4), draw.random() < 0.4
    english, german = first.english, first.main(time_first)
    if kind == 1:
        speaker = draw.choice(PEOPLE)
        english = f"{speaker[0]} says that {english}"
        german = f"{speaker[1]} sagt, {either(draw, f'dass {first.subordinate()}', first.main(False))}"
    elif kind == 2:
        second = clause(draw)
        english = f"{english} because {second.english}"
        german = f"{german}, {either(draw, f'weil {second.subordinate()}', f'denn {second.main(False)}')}"
    elif kind == 3:
        second = clause(draw)
        english, german = f"{english} and {second.english}", f"{german} und {second.main(False)}"
    return f"{english[0].upper()}{english[1:]}.", f"{german[0].upper()}{german[1:]}."


def corpus(sizes: dict[str, int], seed: int) -> dict[str, list[tuple[str, str]]]:
    """Generate all splits; no source sentence occurs twice, neither within a split nor across splits."""
    draw = random.Random(seed)
    seen: set[str] = set()
    splits: dict[str, list[tuple[str, str]]] = {}
    for split, size in sizes.items():
        splits[split] = []
        while len(splits[split]) < size:
            pair = sentence(draw)
            if pair[0] not in seen:
                seen.add(pair[0])
                splits[split].append(pair)
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--train", type=int, default=1200, help="training sentences (default: %(default)s)")
    parser.add_argument("--valid", type=int, default=300, help="validation sentences (default: %(default)s)")
    parser.add_argument("--test", type=int, default=500, help="test sentences (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    sizes = {"valid": args.valid, "test": args.test, "train": args.train}
    for split, pairs in corpus(sizes, args.seed).items():
        for column, language in enumerate(("en", "de")):
            lines = "".join(f"{pair[column]}\n" for pair in pairs)
            (args.out_dir / f"{split}.{language}").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
