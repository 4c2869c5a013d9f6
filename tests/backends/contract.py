"""What every engine must do. An engine's own test inherits it, and says how its models are loaded.

`models` of a subclass: a callable (family, options) -> a loaded engine, kept for the session.
`long`: a model with a window of `WINDOW`, loaded with the options `LONG`.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from tests.backends import reference
from wordmill.backends.base import MODES, Backend, Form, Options, Piece, Sampling, asked, refuse
from wordmill.errors import ConfigError, InvalidInput

EXACT = Options(dtype="float32", threads=1, slots=8, cache_tokens=4096, batch_tokens=128)
GREEDY = Sampling(max_tokens=reference.NEW, temperature=0)
DRAWN = Sampling(max_tokens=16, temperature=1.3, top_k=4)
"""Of few tokens: among many, the last digit of a sum decides between neighbours, and that digit
depends on who else is in the batch and on what was kept of an earlier prompt."""
WINDOW = 8192
LONG = replace(EXACT, cache_tokens=WINDOW)
STEPS = 5000
"""Steps within which any of these answers is over."""

Models = Callable[[str, Options], Backend]


@dataclass
class Answer:
    """What came of one request."""

    pieces: list[Piece] = field(default_factory=list)
    text: str = ""
    tokens: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(piece.count for piece in self.pieces)

    @property
    def finish(self) -> str | None:
        return self.pieces[-1].finish if self.pieces else None


def answers(
    engine: Backend, asked_: Mapping[int, tuple[Sequence[int], Sampling]]
) -> dict[int, Answer]:
    """All of them at once, to the end."""
    made = {number: Answer() for number in asked_}
    decoding = {number: engine.words.decoding(special=False) for number in asked_}
    for number, (prompt, sampling) in asked_.items():
        engine.submit(number, prompt, sampling)
    live = set(asked_)
    for _ in range(STEPS):
        for piece in engine.step():
            answer = made[piece.request]
            answer.pieces.append(piece)
            answer.tokens += piece.tokens
            decoded = decoding[piece.request].add(piece.tokens)
            answer.text += decoded if piece.text is None else piece.text
            if piece.finish:
                answer.text += decoding[piece.request].end()
                live.discard(piece.request)
        if not live:
            return made
    raise AssertionError(f"{len(live)} answers are not over after {STEPS} steps")


def one(engine: Backend, prompt: Sequence[int], sampling: Sampling) -> Answer:
    """One answer."""
    return answers(engine, {1: (prompt, sampling)})[1]


def drawn(length: int, seed: int) -> list[int]:
    """A prompt of so many tokens, none of them special."""
    draw = random.Random(seed)
    return [draw.randrange(20, 500) for _ in range(length)]


def _same(found: list[list[int]], rows: list[list[int]]) -> None:
    """llama.cpp keeps special tokens out of an answer without an end: until one, all are equal."""
    for made, row in zip(found, rows, strict=True):
        special = next((at for at, token in enumerate(row) if token < 4), len(row))
        assert made[:special] == row[:special]
    assert sum(len(row) for row in rows if min(row) >= 4) >= len(rows) * reference.NEW // 2


class Contract:
    """Inherit it, and give `models` and `families`."""

    families: ClassVar[Sequence[str]]

    @pytest.fixture
    def models(self) -> Models:
        raise NotImplementedError

    @pytest.fixture
    def long(self) -> Backend:
        raise NotImplementedError

    @pytest.fixture
    def llama(self, models: Models) -> Backend:
        return models("llama", EXACT)

    def tokens(self, engine: Backend, way: Sampling) -> list[list[int]]:
        """Of the answers to all prompts of the reference, asked at once."""
        prompts = reference.prompts()
        made = answers(engine, {at: (prompt, way) for at, prompt in enumerate(prompts)})
        assert {one.finish for one in made.values()} == {"length"}
        assert {one.count for one in made.values()} == {way.max_tokens}
        return [made[at].tokens for at in range(len(prompts))]

    def test_greedy_answers_equal_the_reference_token_by_token(self, models: Models) -> None:
        for family in self.families:
            found = self.tokens(models(family, EXACT), GREEDY)
            _same(found, reference.rows()[family]["greedy"])

    def test_a_repetition_penalty_counts_the_prompt_as_the_reference_does(
        self, llama: Backend
    ) -> None:
        found = self.tokens(llama, replace(GREEDY, repetition_penalty=1.3))
        _same(found, reference.rows()["llama"]["penalty"])

    def test_beams_find_what_the_reference_finds(self, llama: Backend) -> None:
        if "num_beams" not in llama.facts.modes:
            with pytest.raises(InvalidInput, match="cannot do `num_beams`"):
                refuse(llama.facts, replace(GREEDY, num_beams=3))
            return
        found = self.tokens(llama, replace(GREEDY, num_beams=3))
        assert found == reference.rows()["llama"]["beams"]

    def test_what_one_person_asks_for_does_not_reach_another(self, llama: Backend) -> None:
        prompt = reference.prompts()[0]
        ways = {
            1: replace(GREEDY, max_tokens=16),
            2: replace(DRAWN, seed=5),
            3: replace(DRAWN, seed=6, top_k=3),
            4: replace(GREEDY, max_tokens=16, repetition_penalty=1.5),
            5: replace(DRAWN, seed=5, temperature=0.5, presence_penalty=1.0),
            6: replace(GREEDY, max_tokens=7),
        }
        together = answers(llama, {number: (prompt, way) for number, way in ways.items()})
        # Beside neighbours who ask for something else. (Not alone: how many there are decides in
        # which order an engine adds up, and so the last digits.)
        other = Sampling(max_tokens=16, temperature=2.0, seed=99, min_p=0.01)
        for number, way in ways.items():
            others = {each: (prompt, way if each == number else other) for each in ways}
            assert answers(llama, others)[number].text == together[number].text, way
        assert together[6].count == 7
        assert len({each.text for each in together.values()}) == len(ways)

    def test_a_seed_gives_the_same_answer_and_another_seed_another(self, llama: Backend) -> None:
        prompt = reference.prompts()[0]
        first, again, other = (
            one(llama, prompt, replace(DRAWN, seed=seed)).text for seed in (3, 3, 4)
        )
        assert first == again != other
        free = {one(llama, prompt, DRAWN).text for _ in range(4)}
        assert len(free) > 1

    def test_what_leaves_one_token_is_greedy(self, llama: Backend) -> None:
        prompt = reference.prompts()[2]
        greedy = one(llama, prompt, GREEDY).text
        drawn = replace(GREEDY, temperature=1.0, seed=1)
        assert one(llama, prompt, replace(drawn, top_k=1)).text == greedy
        assert one(llama, prompt, replace(drawn, top_p=1e-6)).text == greedy
        assert one(llama, prompt, replace(drawn, min_p=0.999)).text == greedy

    def test_cancelling_frees_the_slot_within_a_step(self, models: Models) -> None:
        engine = models("llama", replace(EXACT, slots=1))
        prompt = reference.prompts()[0]
        engine.submit(1, prompt, replace(GREEDY, max_tokens=450))
        while not any(piece.tokens or piece.text for piece in engine.step()):
            pass
        engine.cancel(1)
        engine.cancel(1)
        engine.submit(2, prompt, replace(GREEDY, max_tokens=3))
        seen: list[Piece] = []
        for _ in range(60):
            seen += engine.step()
            if seen and seen[-1].finish:
                break
        assert {piece.request for piece in seen} == {2}
        assert seen[-1].finish == "length"
        assert sum(piece.count for piece in seen) == 3

    def test_an_answer_goes_on_while_a_long_prompt_is_read(self, long: Backend) -> None:
        prompt = drawn(4000, 1)
        long.submit(101, drawn(20, 2), replace(GREEDY, max_tokens=4000))
        while not any(piece.count for piece in long.step()):
            pass
        long.submit(102, prompt, GREEDY)
        meanwhile = 0
        for _ in range(STEPS):
            pieces = long.step()
            meanwhile += sum(piece.count for piece in pieces if piece.request == 101)
            if any(piece.count for piece in pieces if piece.request == 102):
                break
        # A token at each of its pieces, of which there are 31.
        assert meanwhile >= len(prompt) // LONG.batch_tokens // 2
        for request in (101, 102):  # numbers that no other answer has: its last pieces come late
            long.cancel(request)

    def test_an_end_token_ends_an_answer_and_is_no_part_of_it(self, llama: Backend) -> None:
        rows = reference.rows()["llama"]["greedy"][1]
        if "logit_bias" in llama.facts.modes:
            end = next(iter(llama.facts.ends))
            way = replace(GREEDY, ends=llama.facts.ends, logit_bias={end: 100.0})
            made = one(llama, reference.prompts()[1], way)
            assert (made.text, made.finish) == ("", "stop")
            return
        made = one(llama, reference.prompts()[1], replace(GREEDY, ends=frozenset({rows[4]})))
        assert (made.tokens, made.finish) == (rows[:4], "stop")

    def test_probabilities_are_the_references(self, llama: Backend) -> None:
        made = one(llama, reference.prompts()[0], replace(GREEDY, max_tokens=2, logprobs=0))
        told = [each for piece in made.pieces for each in piece.logprobs]
        assert len(told) == 2
        assert told[0].value == pytest.approx(
            reference.rows()["llama"]["first_logprob"][0], abs=1e-3
        )

    def test_what_an_engine_cannot_do_is_refused_by_name(self, llama: Backend) -> None:
        needs = {
            "typical_p": replace(GREEDY, typical_p=0.5),
            "no_repeat_ngram_size": replace(GREEDY, no_repeat_ngram_size=2),
            "num_beams": replace(GREEDY, num_beams=2),
            "top_logprobs": replace(GREEDY, logprobs=3),
            "logit_bias": replace(GREEDY, logit_bias={3: 1.0}),
            "num_beam_groups": replace(GREEDY, num_beam_groups=2),
        }
        for name, way in needs.items():
            assert name in asked(way)
            if name in llama.facts.modes:
                refuse(llama.facts, way)
                continue
            with pytest.raises(InvalidInput, match=f"cannot do `{name}`. It can do: ") as refused:
                refuse(llama.facts, way)
            assert refused.value.field == name
        assert llama.facts.modes <= set(MODES)

    def test_an_answer_follows_its_schema(self, llama: Backend) -> None:
        schema = {
            "type": "object",
            "properties": {
                "age": {"type": "integer", "minimum": 3, "maximum": 120},
                "kind": {"enum": ["cat", "dog"]},
                "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
            },
            "required": ["age", "kind", "tags"],
            "additionalProperties": False,
        }
        for seed in range(3):
            way = self._formed(llama, Form("json_schema", json.dumps(schema)), seed)
            made = one(llama, reference.prompts()[seed], way)
            value = json.loads(made.text)
            assert list(value) == ["age", "kind", "tags"]
            assert 3 <= value["age"] <= 120
            assert value["kind"] in ("cat", "dog")
            assert all(isinstance(each, bool) for each in value["tags"])
            assert made.finish == "stop"

    def test_an_answer_is_one_of_the_choices_or_matches_an_expression(self, llama: Backend) -> None:
        prompt = reference.prompts()[0]
        choices = ["yes", "no", 'the "third" way']
        way = self._formed(llama, Form("choices", json.dumps(choices)), 1)
        assert one(llama, prompt, way).text in choices
        pattern = r"[A-Z][a-z]{2,4}-\d{3}(x|yz)?"
        way = self._formed(llama, Form("regex", pattern), 2)
        assert re.fullmatch(pattern, one(llama, prompt, way).text)

    def test_a_form_that_cannot_be_followed_is_refused_and_others_go_on(
        self, llama: Backend
    ) -> None:
        prompt = reference.prompts()[0]
        llama.submit(1, prompt, GREEDY)
        for form in (
            Form("regex", "((("),
            Form("json_schema", json.dumps({"type": "nonsense"})),
            Form("json_schema", json.dumps({"$ref": "#/none"})),
            Form("json_schema", json.dumps({"enum": 5})),
            Form("json_schema", json.dumps({"type": "array", "minItems": "x"})),
            Form("regex", "a{99999999999999999999}"),
        ):
            with pytest.raises(InvalidInput):
                llama.submit(2, prompt, self._formed(llama, form, 1))
        for _ in range(STEPS):
            if any(piece.finish for piece in llama.step()):
                break
        assert one(llama, prompt, GREEDY).finish == "length"

    def test_weights_that_give_no_numbers_are_said_when_loading(self, models: Models) -> None:
        with pytest.raises(ConfigError, match=r"computes no numbers \(NaN\)"):
            models("broken", EXACT)

    @staticmethod
    def _formed(engine: Backend, form: Form, seed: int) -> Sampling:
        return Sampling(
            max_tokens=100, temperature=1.0, seed=seed, form=form, ends=engine.facts.ends
        )
