"""`llm_envs/WordProblems-v0`: short stories with several steps of arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_level, pick, whole
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

_REWARD = MathReward(rules=MARKED_RULES)
_NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Farah", "Goro", "Hana", "Ivan", "Joy", "Kofi", "Lena", "Mateo", "Nia")
_THINGS = ("apples", "marbles", "stickers", "books", "pencils", "shells", "cards", "stamps", "coins", "beads")
_PLACES = ("shelves", "boxes", "bags", "drawers", "baskets")


class _Story:
    """The words of one problem; its numbers are what makes it this one."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        first = pick(rng, _NAMES)
        second = pick(rng, [name for name in _NAMES if name != first])
        self.first, self.second = first, second
        self.thing, self.place = pick(rng, _THINGS), pick(rng, _PLACES)
        self.numbers: list[int] = []

    def number(self, low: int, high: int) -> int:
        """A new number of the story, its range scaled by the level's size."""
        value = whole(self.rng, low, high * self.size)
        self.numbers.append(value)
        return value


Told = tuple[str, int, list[str]]
"""The story with its question, the answer, and the steps to it."""


def _gives_away(story: _Story) -> Told:
    kept, given = story.number(3, 20), story.number(2, 20)
    total = kept + given
    story.numbers[0] = total
    text = f"{story.first} has {total} {story.thing} and gives {given} of them to {story.second}. "
    return text + f"How many {story.thing} does {story.first} have left?", kept, [f"{total} - {given} = {kept}"]


def _buys(story: _Story) -> Told:
    count, price = story.number(2, 9), story.number(2, 9)
    cost = count * price
    text = f"{story.first} buys {count} {story.thing} for {price} dollars each. "
    return text + "How many dollars does that cost?", cost, [f"{count} * {price} = {cost}"]


def _shares(story: _Story) -> Told:
    each, friends = story.number(2, 12), story.number(2, 9)
    total = each * friends
    story.numbers[0] = total
    text = f"{total} {story.thing} are put into {friends} {story.place}, the same number into each. "
    return text + f"How many {story.thing} are in one of them?", each, [f"{total} / {friends} = {each}"]


def _change(story: _Story) -> Told:
    count, price, rest = story.number(2, 9), story.number(2, 9), story.number(1, 20)
    paid = count * price + rest
    story.numbers[2] = paid
    text = f"{story.first} buys {count} {story.thing} for {price} dollars each and pays with {paid} dollars. "
    steps = [f"{count} * {price} = {count * price}", f"{paid} - {count * price} = {rest}"]
    return text + "How many dollars does the seller give back?", rest, steps


def _more_than(story: _Story) -> Told:
    own, more = story.number(3, 20), story.number(2, 15)
    text = f"{story.first} has {own} {story.thing}. {story.second} has {more} more than {story.first}. "
    steps = [f"{own} + {more} = {own + more}", f"{own} + {own + more} = {2 * own + more}"]
    return text + f"How many {story.thing} do they have together?", 2 * own + more, steps


def _times_as_many(story: _Story) -> Told:
    own, times, lost = story.number(3, 12), whole(story.rng, 2, 6), story.number(1, 10)
    story.numbers.append(times)
    first = own * times
    lost = story.numbers[1] = 1 + lost % (first - 1)
    text = f"{story.second} has {own} {story.thing}, and {story.first} has {times} times as many. "
    text += f"Then {story.first} loses {lost} of them. "
    steps = [f"{own} * {times} = {first}", f"{first} - {lost} = {first - lost}"]
    return text + f"How many {story.thing} does {story.first} have now?", first - lost, steps


def _savings(story: _Story) -> Told:
    weekly, weeks, spent, start = story.number(4, 15), story.number(3, 9), story.number(1, 20), story.number(5, 30)
    saved = start + weekly * weeks
    spent = story.numbers[2] = 1 + spent % (saved - 1)
    text = f"{story.first} has {start} dollars and saves {weekly} dollars a week for {weeks} weeks, "
    text += f"and then spends {spent} dollars. "
    steps = [f"{weekly} * {weeks} = {weekly * weeks}", f"{start} + {weekly * weeks} = {saved}"]
    return text + "How many dollars are left?", saved - spent, [*steps, f"{saved} - {spent} = {saved - spent}"]


def _shelves(story: _Story) -> Told:
    places, each, removed, people = (
        story.number(2, 8),
        story.number(4, 12),
        story.number(1, 9),
        whole(story.rng, 2, 5),
    )
    share = max(1, (places * each - removed) // people)
    removed = story.numbers[2] = places * each - share * people
    story.numbers.append(people)
    rest = places * each - removed
    text = (
        f"There are {places} {story.place} with {each} {story.thing} in each. {removed} of the {story.thing} are sold. "
    )
    text += f"The rest is divided equally among {people} children. "
    steps = [f"{places} * {each} = {places * each}", f"{places * each} - {removed} = {rest}"]
    return text + f"How many {story.thing} does each child get?", share, [*steps, f"{rest} / {people} = {share}"]


def _journey(story: _Story) -> Told:
    speed, hours = story.number(3, 12), story.number(2, 6)
    faster, more = story.number(2, 9), story.number(2, 6)
    first, second = speed * hours, (speed + faster) * more
    text = f"{story.first} rides {hours} hours at {speed} kilometres an hour, and then {more} hours "
    text += f"{faster} kilometres an hour faster. "
    steps = [f"{hours} * {speed} = {first}", f"{speed} + {faster} = {speed + faster}"]
    steps += [f"{more} * {speed + faster} = {second}", f"{first} + {second} = {first + second}"]
    return text + "How many kilometres is that?", first + second, steps


def _tickets(story: _Story) -> Told:
    adults, children = story.number(2, 8), story.number(2, 9)
    price, less = story.number(6, 12), story.number(1, 4)
    less = story.numbers[3] = 1 + less % (price - 1)
    total = adults * price + children * (price - less)
    text = (
        f"A ticket costs {price} dollars for an adult and {less} dollars less for a child. {story.first} buys tickets "
    )
    text += f"for {adults} adults and {children} children. "
    steps = [f"{price} - {less} = {price - less}", f"{adults} * {price} = {adults * price}"]
    steps += [f"{children} * {price - less} = {children * (price - less)}"]
    steps += [f"{adults * price} + {children * (price - less)} = {total}"]
    return text + "How many dollars does that cost?", total, steps


LEVELS: tuple[tuple[int, tuple[Callable[[_Story], Told], ...]], ...] = (
    (2, (_gives_away, _buys, _shares)),
    (3, (_change, _more_than, _times_as_many)),
    (3, (_savings, _shelves, _journey, _tickets)),
    (10, (_savings, _shelves, _journey, _tickets, _change, _times_as_many)),
)
"""By how much the numbers are larger, and the stories, of each level."""


@register_task("llm_envs/WordProblems-v0", reward=_REWARD)
def word_problems(rng: np.random.Generator, level: int = 0) -> Problem:
    """Find the number that a short story asks for.

    Names and things are drawn from lists; a story with the same numbers is the same problem whoever is in it.

    Args:
        rng: Source of randomness.
        level: 0: one step; 1: two steps; 2: three or four steps; 3: two to four steps with larger numbers.

    Raises:
        ValueError: `level` is out of range.
    """
    check_level(level, len(LEVELS))
    size, makers = LEVELS[level]
    make = makers[int(rng.integers(len(makers)))]
    story = _Story(rng, size)
    text, answer, steps = make(story)
    return Problem(
        prompt=f"{text} {_REWARD.instruction}",
        reference=str(answer),
        solution=f"{'. '.join(steps)}. {boxed(answer)}",
        metadata={"level": level},
        key=f"{make.__name__} {story.numbers}",
    )
