"""Who is next: fewest under way first, then who was served longest ago; one's own in order."""

import random

import pytest

from wordmill.model_server.fairness import FairQueue, QueueFull


class Item:
    """Something that is told apart by identity, and shown by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def person(self) -> str:
        return self.name.split("-")[0]


def filled(*names: str, most: int = 100, each: int = 100, at_once: int | None = None) -> FairQueue:
    queue: FairQueue[Item] = FairQueue(most, each, at_once)
    for name in names:
        item = Item(name)
        queue.add(item.person, item)
    return queue


def taken(queue: FairQueue, count: int) -> list[str]:
    found = [queue.take() for _ in range(count)]
    return [item.name for item in found if item is not None]


def test_another_person_has_the_very_next_slot() -> None:
    queue = filled(*(f"ann-{n}" for n in range(100)))
    assert taken(queue, 3) == ["ann-0", "ann-1", "ann-2"]
    bob = Item("bob-0")
    queue.add("bob", bob)
    assert queue.place(bob) == 1
    assert taken(queue, 1) == ["bob-0"]


def test_people_take_turns_and_keep_their_own_order() -> None:
    queue = filled("ann-0", "ann-1", "ann-2", "bob-0", "eve-0", "eve-1")
    assert taken(queue, 6) == ["ann-0", "bob-0", "eve-0", "ann-1", "eve-1", "ann-2"]


def test_who_has_fewer_under_way_comes_first() -> None:
    queue = filled("ann-0", "ann-1", "bob-0", "bob-1")
    for item in [queue.take() for _ in range(4)]:
        if item.person == "ann":
            queue.release("ann", item)
    for name in ("bob-2", "ann-2"):
        item = Item(name)
        queue.add(item.person, item)
    assert taken(queue, 1) == ["ann-2"]


def test_a_person_has_at_most_so_many_at_once() -> None:
    queue = filled("ann-0", "ann-1", "ann-2", at_once=2)
    assert taken(queue, 3) == ["ann-0", "ann-1"]
    queue.release("ann", Item("ann-0"))
    assert taken(queue, 1) == ["ann-2"]


def test_a_request_for_several_answers_counts_as_so_many() -> None:
    queue: FairQueue[Item] = FairQueue(9, 9, weigh=lambda one: 3 if one.name == "ann-0" else 1)
    for name in ("ann-0", "ann-1", "bob-0", "bob-1", "bob-2"):
        queue.add(name.split("-")[0], Item(name))
    first = queue.take()
    assert [one.name for one in sorted(queue.all(), key=queue.place)][-1] == "ann-1"
    assert taken(queue, 4) == ["bob-0", "bob-1", "bob-2", "ann-1"]
    queue.release("ann", first)


def test_one_that_comes_back_is_the_next_of_its_person() -> None:
    queue = filled("ann-0", "ann-1")
    first = queue.take()
    queue.again("ann", first)
    assert taken(queue, 2) == ["ann-0", "ann-1"]


def test_places_are_the_order_in_which_they_are_taken() -> None:
    draw = random.Random(7)
    for _ in range(50):
        at_once = draw.choice((None, 3))
        queue: FairQueue[Item] = FairQueue(1000, 1000, at_once)
        under_way: list[Item] = []
        items = []
        for number in range(draw.randint(1, 60)):
            item = Item(f"{draw.choice('abcde')}-{number}")
            queue.add(item.person, item)
            items.append(item)
            if draw.random() < 0.4:
                found = queue.take()
                under_way.append(found)
                items.remove(found)
            if under_way and draw.random() < 0.3:
                ended = under_way.pop(draw.randrange(len(under_way)))
                queue.release(ended.person, ended)
        foreseen = sorted(items, key=queue.place)
        found = taken(queue, len(items))
        assert found == [item.name for item in foreseen][: len(found)]
        for item in under_way:
            queue.release(item.person, item)
        assert at_once or len(queue) == 0


def test_a_full_queue_takes_no_more() -> None:
    queue = filled("ann-0", "ann-1", "bob-0", most=3, each=2)
    with pytest.raises(QueueFull) as full:
        queue.add("ann", Item("ann-2"))
    assert full.value.whose == "queue"
    queue = filled("ann-0", "ann-1", most=9, each=2)
    with pytest.raises(QueueFull) as full:
        queue.add("ann", Item("ann-2"))
    assert (full.value.whose, full.value.waiting) == ("person", 2)


def test_who_leaves_is_forgotten() -> None:
    queue = filled("ann-0")
    (item,) = queue.all()
    assert queue.remove("ann", item) is True
    assert queue.remove("ann", item) is False
    assert (len(queue), queue.take(), queue.place(item)) == (0, None, None)
