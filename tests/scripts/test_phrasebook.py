import random

import phrasebook
import pytest


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (2, "two", "zwei"),
        (16, "sixteen", "sechzehn"),
        (21, "twenty-one", "einundzwanzig"),
        (70, "seventy", "siebzig"),
        (100, "one hundred", "einhundert"),
        (101, "one hundred and one", "einhunderteins"),
        (427, "four hundred and twenty-seven", "vierhundertsiebenundzwanzig"),
        (1000, "one thousand", "eintausend"),
        (7014, "seven thousand and fourteen", "siebentausendvierzehn"),
        (21901, "twenty-one thousand nine hundred and one", "einundzwanzigtausendneunhunderteins"),
        (999999, *("nine hundred and ninety-nine thousand nine hundred and ninety-nine",
                   "neunhundertneunundneunzigtausendneunhundertneunundneunzig")),
    ],
)  # fmt: skip
def test_numbers(number, english, german):
    assert (phrasebook.english_number(number), phrasebook.german_number(number)) == (english, german)


@pytest.mark.parametrize(
    ("day", "english", "german"),
    [
        (1, "first", "ersten"),
        (3, "third", "dritten"),
        (7, "seventh", "siebten"),
        (12, "twelfth", "zwölften"),
        (20, "twentieth", "zwanzigsten"),
        (21, "twenty-first", "einundzwanzigsten"),
        (16, "sixteenth", "sechzehnten"),
    ],
)
def test_days(day, english, german):
    assert (phrasebook.english_ordinal(day), phrasebook.german_ordinal(day)) == (english, german)


@pytest.mark.parametrize(
    ("year", "english", "german"),
    [
        (1984, "nineteen eighty-four", "neunzehnhundertvierundachtzig"),
        (1900, "nineteen hundred", "neunzehnhundert"),
        (1905, "nineteen hundred and five", "neunzehnhundertfünf"),
        (2005, "two thousand and five", "zweitausendfünf"),
        (2015, "twenty fifteen", "zweitausendfünfzehn"),
    ],
)
def test_years(year, english, german):
    assert (phrasebook.english_year(year), phrasebook.german_year(year)) == (english, german)


def test_times_follow_german_usage():
    class Fixed(random.Random):
        def __init__(self, hour, minute):
            super().__init__()
            self.hour, self.minute = hour, minute

        def randint(self, *_):
            return self.hour

        def randrange(self, *_):
            return self.minute

        def choice(self, options):
            return options[2]

        def random(self):
            return 0.0  # the more common translation

    times = {
        (6, 30): ("at half past six in the evening", "um halb sieben abends"),
        (12, 35): ("at twenty-five to one in the evening", "um fünf nach halb eins abends"),
        (6, 25): ("at twenty-five past six in the evening", "um fünf vor halb sieben abends"),
        (1, 0): ("at one o'clock in the evening", "um ein Uhr abends"),
        (9, 15): ("at a quarter past nine in the evening", "um Viertel nach neun abends"),
        (9, 50): ("at ten to ten in the evening", "um zehn vor zehn abends"),
    }
    for (hour, minute), words in times.items():
        assert phrasebook.clock_time(Fixed(hour, minute)) == words


def test_clauses_follow_german_word_order():
    clause = phrasebook.Clause("", "der Zug", "fährt", "um sechs Uhr", "nach Köln", particle="ab")
    assert clause.main(time_first=False) == "der Zug fährt um sechs Uhr nach Köln ab"
    assert clause.main(time_first=True) == "um sechs Uhr fährt der Zug nach Köln ab"
    assert clause.subordinate() == "der Zug um sechs Uhr nach Köln abfährt"
    born = phrasebook.Clause("", "Anna", "wurde", "am Montag", "in Rom", participle="geboren")
    assert born.subordinate() == "Anna am Montag in Rom geboren wurde"


def test_a_seed_always_gives_the_same_corpus_and_no_sentence_is_in_two_splits():
    sizes = {"test": 50, "train": 400}
    first = phrasebook.corpus(sizes, seed=1)
    assert first == phrasebook.corpus(sizes, seed=1) != phrasebook.corpus(sizes, seed=2)
    assert {name: len(pairs) for name, pairs in first.items()} == sizes
    sources = [source for pairs in first.values() for source, _ in pairs]
    assert len(set(sources)) == len(sources)
    assert not any(" a o" in source or "  " in source for source in sources)
