"""Predictions over a teacher's subwords become predictions over a student's."""

import math
import random

import numpy
import pytest

from nmt_kd.caching.alignment import AHEAD, BEHIND, EXACT, common_starts
from nmt_kd.caching.respelling import REST, Respeller, StudentWriting, TopWords, Wanted, respell
from nmt_kd.caching.spelling import END, UNREADABLE, Spelled, sentence_texts, vocabulary_texts

SPM, BPE = "sentencepiece", "subword_nmt"
CHARACTERS = ["▁", *"abc"]
PIECES = ["▁", *"abc", "▁a", "▁b", "▁ab", "ab", "▁abc", "bc", "▁bca", "ca", "▁ca", "aa"]
WHOLE = ["▁a", "▁b", "▁c", "a", "b", "c", "▁abc", "▁abcab", "▁bca", "▁cab", "cab", "bca"]


class Side:
    """A vocabulary: 0 ends a sentence, 1 is unknown, 2 spells nothing."""

    def __init__(self, pieces, marks=SPM):
        self.symbols, self.marks = ["</s>", "<unk>", "<pad>", *pieces], marks
        self.texts = vocabulary_texts(self.symbols, marks, 0, 1, {2})

    def read(self, line: str) -> Spelled:
        symbols = line.split()
        tokens = [self.symbols.index(symbol) if symbol in self.symbols else 1 for symbol in symbols]
        return Spelled([*tokens, 0], sentence_texts(symbols, self.marks))

    def segment(self, text: str, draw: random.Random) -> str:
        """Split a text at random into pieces of the vocabulary."""
        pieces = []
        while text:
            piece = draw.choice([symbol for symbol in self.symbols[3:] if text.startswith(symbol)])
            pieces.append(piece)
            text = text[len(piece) :]
        return " ".join(pieces)

    def split(self, text: str) -> list[str]:
        """Split a marked text, the shortest piece first: looking for the longest would give others."""
        pieces = []
        while text:
            found = min((each for each in self.texts[3:] if text.startswith(each)), key=len, default=text)
            pieces.append(found)
            text = text[len(found) :]
        return pieces

    def writing(self) -> StudentWriting:
        mark = "▁{}" if self.marks == SPM else "{}▁"
        return StudentWriting(self.texts, self.marks, lambda word: self.split(mark.format(word)))


def predicted(teacher: Side, sentence: Spelled, draw: random.Random, words=5) -> TopWords:
    """Random predictions, which have the reference among them mostly."""
    rows = []
    for token in sentence.tokens:
        others = draw.sample([n for n in range(len(teacher.symbols)) if n != token], words)
        chosen = [*others[:-1], token] if draw.random() < 0.8 else others
        weights = [draw.random() for _ in range(words + 1)]
        rows.append((chosen, [math.log(weight / sum(weights)) for weight in weights]))
    log_q = numpy.array([logs for _, logs in rows])
    return TopWords(numpy.array([chosen for chosen, _ in rows]), log_q[:, :-1], log_q[:, -1])


def respelled(
    student: Side, teacher: Side, own: Spelled, theirs: Spelled, top: TopWords
) -> dict[int, dict[int, float]]:
    """The probabilities at each position that has a prediction; those of the rest as REST."""
    starts = common_starts(own, theirs)
    wanted = [Wanted.of(start, 0, own, theirs) for start in starts]
    fillers = list(reversed(range(len(student.symbols))))
    found = respell(Respeller(teacher.texts, teacher.marks, student.writing()), top, wanted, fillers)
    result = {}
    for start, words, log_q, log_rest in zip(starts, found.words, found.log_q, found.log_rest, strict=True):
        assert len(set(words.tolist())) == len(words)
        assert sorted(log_q, reverse=True) == log_q.tolist()
        result[start.student] = {
            **{
                word: math.exp(log) for word, log in zip(words.tolist(), log_q.tolist(), strict=True) if log > -math.inf
            },
            REST: math.exp(log_rest),
        }
    return result


def slow_form(
    student: Side, teacher: Side, own: Spelled, theirs: Spelled, top: TopWords
) -> dict[int, dict[int, float]]:
    """The same between two vocabularies of sentencepiece, from the definition."""

    def ends(sentence):
        return ["".join(sentence.texts[:number]) for number in range(len(sentence.texts) + 1)]

    def first(text):
        if text in student.texts:
            return student.texts.index(text)
        if text.startswith("▁"):
            word = "▁" + text[1:].split("▁")[0]
            if word in student.texts:
                return student.texts.index(word)
            piece = student.split(word)[0] if word != "▁" else "none"
            return student.texts.index(piece) if piece in student.texts else REST
        word = text.split("▁")[0]
        fitting = [piece for piece in student.texts if piece and word.startswith(piece)]
        return student.texts.index(max(fitting, key=len)) if fitting else REST

    def walk(position, shares, number, text, probability, known):
        """`known` is what the student has spelled of the teacher's next subword: nothing, or the start of a word."""
        shares[REST] += probability * math.exp(top.log_rest[number])
        for word, log_q in zip(top.words[number].tolist(), top.log_q[number].tolist(), strict=True):
            share, spelled = probability * math.exp(log_q), teacher.texts[word]
            if word != theirs.tokens[number]:
                if spelled is not None and not (text + spelled).startswith(known):
                    continue
                target = REST if spelled is None else first((text + spelled).removeprefix(known))
            elif len(text + theirs.texts[number]) >= len(known + own.texts[position]):
                target = own.tokens[position]
            else:
                walk(position, shares, number + 1, text + theirs.texts[number], share, known)
                continue
            shares[target] = shares.get(target, 0.0) + share
        return shares

    result = {}
    for position, written in enumerate(ends(own)[:-1]):
        for known in ("", "▁") if written.endswith("▁") else ("",):
            before = written.removesuffix(known)
            if before in ends(theirs)[:-1] and position not in result:
                shares = walk(position, {REST: 0.0}, ends(theirs).index(before), "", 1.0, known)
                result[position] = {word: share / sum(shares.values()) for word, share in shares.items()}
    return result


@pytest.mark.parametrize(
    ("students", "teachers"),
    [(PIECES, WHOLE), (WHOLE, PIECES), (PIECES, CHARACTERS), (CHARACTERS, PIECES), (PIECES, PIECES)],
    ids=["pieces", "longer pieces", "a teacher of characters", "a student of characters", "the same pieces"],
)
def test_mapped_predictions_are_those_of_a_slow_form(students, teachers):
    student, teacher, draw = Side(students), Side(teachers), random.Random(5)
    compared = continued = 0
    for _ in range(60):
        words = ["".join(draw.choices("abc", k=draw.randint(1, 6))) for _ in range(draw.randint(0, 4))]
        text = "".join("▁" + word for word in words)
        own, theirs = (side.read(side.segment(text, draw)) for side in (student, teacher))
        top = predicted(teacher, theirs, draw)
        found, expected = (form(student, teacher, own, theirs, top) for form in (respelled, slow_form))
        assert found.keys() == expected.keys()
        for position, shares in expected.items():
            assert found[position] == pytest.approx(shares, rel=1e-9)
            assert sum(shares.values()) == pytest.approx(1)
            compared += 1
        continued += sum(start.length > 1 for start in common_starts(own, theirs))
    assert compared > 60
    assert continued > 10 or students is CHARACTERS


def test_the_same_segmentation_gives_the_same_predictions():
    side, draw = Side(PIECES), random.Random(2)
    sentence = side.read("▁ab ca ▁ab ca ▁b")
    top = predicted(side, sentence, draw)
    found = respelled(side, side, sentence, sentence, top)
    assert list(found) == list(range(6))
    for position, shares in found.items():
        assert shares.pop(REST) == pytest.approx(
            math.exp(top.log_rest[position])
            + sum(math.exp(q) for w, q in zip(top.words[position], top.log_q[position], strict=True) if w == 2)
        )
        words = [word for word in top.words[position].tolist() if word != 2]
        assert sorted(shares) == sorted(words)


def one_position(student, teacher, own, theirs, position, *predictions):
    """The prediction at a position, by symbols; `predictions` of the teacher are as {symbol: probability}."""
    own, theirs = student.read(own), teacher.read(theirs)
    width = max(map(len, predictions))
    words, log_q, log_rest = [], [], []
    for each in [*predictions, *[{}] * (len(theirs.tokens) - len(predictions))]:
        chosen = [teacher.symbols.index(symbol) for symbol in each]
        spare = [n for n in range(len(teacher.symbols)) if n not in chosen][: width - len(chosen)]
        words.append(chosen + spare)
        log_q.append([math.log(q) for q in each.values()] + [-math.inf] * len(spare))
        log_rest.append(math.log(max(1e-12, 1 - sum(each.values()))))
    top = TopWords(numpy.array(words), numpy.array(log_q), numpy.array(log_rest))
    shares = respelled(student, teacher, own, theirs, top)[position]
    named = {student.symbols[word]: share for word, share in shares.items() if word != REST and share > 0}
    return {**named, "rest": shares[REST]}


def test_a_longer_subword_of_the_reference_gets_the_product():
    student, teacher = Side(["▁abc", "▁ab", "▁a", "c", "b"]), Side(["▁a", "b", "c", "▁b"])
    found = one_position(
        student, teacher, "▁abc", "▁a b c", 0, {"▁a": 0.5, "▁b": 0.3}, {"b": 0.8, "c": 0.1}, {"c": 0.9, "</s>": 0.05}
    )
    assert found == pytest.approx(
        {"▁abc": 0.5 * 0.8 * 0.9, "▁ab": 0.5 * 0.8 * 0.05, "▁a": 0.5 * 0.1, "rest": 0.2 + 0.3 + 0.05 + 0.02}
    )


def test_words_that_begin_alike_add_up_and_what_cannot_be_written_goes_to_the_rest():
    student, teacher = Side(["▁ab", "c", "a"]), Side(["▁ab", "▁abc", "▁abcc", "▁x", "<0x41>"])
    predictions = {"▁abc": 0.4, "▁abcc": 0.2, "▁ab": 0.1, "▁x": 0.1, "<0x41>": 0.05, "</s>": 0.05}
    found = one_position(student, teacher, "▁ab c", "▁abc", 0, predictions)
    assert found == pytest.approx({"▁ab": 0.7, "</s>": 0.05, "rest": 0.25})


def test_a_student_that_marks_the_ends_of_words_learns_where_they_end():
    student, teacher = Side(["man", "man@@", "s", "a", "sa"], BPE), Side(["▁man", "s", "▁a", "a"])
    found = one_position(
        student, teacher, "man@@ s", "▁man s", 0, {"▁man": 0.9, "▁a": 0.1}, {"s": 0.6, "▁a": 0.3, "</s>": 0.1}
    )
    assert found == pytest.approx({"man": 0.9 * 0.4, "man@@": 0.9 * 0.6, "a": 0.1, "rest": 0}, abs=1e-9)
    # here the word goes on, so that the teacher's new words are impossible
    found = one_position(student, teacher, "man@@ s", "▁man s", 1, {}, {"s": 0.6, "a": 0.2, "▁a": 0.2}, {"</s>": 1.0})
    assert found == pytest.approx({"s": 0.75, "a": 0.25, "rest": 0}, abs=1e-9)


def test_a_teacher_that_marks_the_ends_of_words_is_understood():
    student, teacher = Side(["▁man", "s", "▁mans", "▁a"]), Side(["man", "man@@", "s", "a"], BPE)
    found = one_position(student, teacher, "▁man s ▁a", "man@@ s a", 0, {"man": 0.2, "man@@": 0.5, "a": 0.3})
    assert found == pytest.approx({"▁man": 0.7, "▁a": 0.3, "rest": 0}, abs=1e-9)
    found = one_position(student, teacher, "▁man s ▁a", "man@@ s a", 2, {}, {}, {"a": 0.6, "</s>": 0.4})
    assert found == pytest.approx({"▁a": 0.6, "</s>": 0.4, "rest": 0}, abs=1e-9)


@pytest.mark.parametrize(
    ("marks", "line", "other_marks", "other_line", "expected"),
    [
        (SPM, "▁a ▁man s", SPM, "▁a ▁ma ns", [(0, 0, EXACT), (1, 1, EXACT), (3, 3, EXACT)]),
        (SPM, "▁a ▁man s", BPE, "a man@@ s", [(0, 0, AHEAD), (1, 1, AHEAD), (2, 2, EXACT), (3, 3, AHEAD)]),
        (BPE, "a man@@ s", SPM, "▁a ▁man s", [(0, 0, BEHIND), (1, 1, BEHIND), (2, 2, EXACT), (3, 3, BEHIND)]),
        (BPE, "a man@@ s", "none", "a mans", [(0, 0, EXACT), (1, 1, EXACT), (3, 2, EXACT)]),
        (SPM, "▁ a ▁ b", SPM, "▁a ▁b", [(0, 0, EXACT), (1, 0, BEHIND), (2, 1, EXACT), (3, 1, BEHIND), (4, 2, EXACT)]),
        (SPM, "", SPM, "", [(0, 0, EXACT)]),
        (SPM, "", BPE, "", [(0, 0, AHEAD)]),
        (SPM, "▁ ½ ▁cup", SPM, "▁ 1 / 2 ▁cup", [(0, 0, EXACT), (1, 1, EXACT), (2, 4, EXACT), (3, 5, EXACT)]),
        (
            SPM,
            "▁a ▁ <0xE2> <0x82> <0xAC> ▁b",
            SPM,
            "▁a ▁€ ▁b",
            [(0, 0, 0), (1, 1, 0), (4, 1, BEHIND), (5, 2, 0), (6, 3, 0)],
        ),
        (SPM, "▁a ▁€ ▁b", SPM, "▁a ▁ <0xE2> <0x82> <0xAC> ▁b", [(0, 0, 0), (1, 1, 0), (2, 5, 0), (3, 6, 0)]),
    ],
)
def test_common_starts(marks, line, other_marks, other_line, expected):
    own, theirs = (
        Spelled([0] * 9, sentence_texts(text.split(), each))
        for text, each in ((line, marks), (other_line, other_marks))
    )
    assert [(start.student, start.teacher, start.lead) for start in common_starts(own, theirs)] == expected


def test_texts_that_are_spelled_differently_have_no_reference_there():
    own, theirs = (Spelled([], sentence_texts(text.split(), SPM)) for text in ("▁ ½ ▁cup", "▁ 1 / 2 ▁cup"))
    assert [start.length for start in common_starts(own, theirs)] == [1, 3, 1, 1]


def test_plain_text_has_no_marks():
    assert Spelled([], sentence_texts("▁a ▁man s".split(), SPM)).plain == "a mans"
    assert Spelled([], sentence_texts("a man@@ s".split(), BPE)).plain == "a mans"
    assert Spelled([], sentence_texts([], SPM)).plain == ""
    assert Spelled([], sentence_texts(["▁", "<0xC3>", "<0xA4>"], SPM)).text == "▁ä▁" + END


def test_unknown_symbols_stand_for_each_other():
    student, teacher = Side(["▁", "▁a"]), Side(["▁", "▁a"])
    line = f"▁a ▁ {UNREADABLE}"
    found = one_position(student, teacher, line, line, 2, {}, {}, {"<unk>": 0.6, "▁a": 0.4})
    assert found == pytest.approx({"<unk>": 0.6, "▁a": 0.4, "rest": 0}, abs=1e-9)


def test_no_position_gives_no_prediction():
    side = Side(PIECES)
    respeller = Respeller(side.texts, SPM, side.writing())
    found = respell(respeller, TopWords.joined([], 3), [], list(range(9)))
    assert (found.words.shape, found.log_q.shape, found.log_rest.shape) == ((0, 3), (0, 3), (0,))
