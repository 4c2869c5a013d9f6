"""Talk on Discord: who is answered, where, in which conversation, and what the model is told."""

import pytest

from tests.discord.conftest import Mill


def test_a_direct_channel_is_one_conversation_until_a_new_one_is_begun(running: Mill) -> None:
    ann = running.knows("ann")
    room = running.direct(ann)
    running.service.say(room, ann, "Good morning")
    running.hears("You said: Good morning", room)
    running.service.say(room, ann, "And now?")
    running.hears("You said: And now?", room)
    assert running.conversations(ann) == 1
    running.service.say(room, ann, "--new")
    running.hears("A new conversation.", room)
    running.service.say(room, ann, "Hello again")
    running.hears("You said: Hello again", room)
    assert running.conversations(ann) == 2
    assert len(running.model.asked[-1]["messages"]) == 1


def test_in_company_a_mention_is_answered_and_nothing_else(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    service.say(service.general, ann, "Nobody is meant")
    service.say(service.general, ann, "@everyone look", mention_everyone=True)
    other = service.say(service.general, service.add_user("ben"), "Who wants tea?")
    service.say(service.general, ann, "Me.", reply_to=other)
    said = service.say(service.general, ann, f"{running.mention} Good morning")
    answer = running.hears("You said: ann: Good morning")
    assert answer["message_reference"]["message_id"] == said
    assert running.answers() == ["You said: ann: Good morning"]


def test_a_chain_of_replies_is_a_conversation(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    service.say(service.general, ann, f"{running.mention} one")
    first = running.hears("You said: ann: one")
    service.say(service.general, ann, "two", reply_to=first["id"])
    second = running.hears("You said: ann: two")
    assert running.conversations(ann) == 1
    assert [one["content"] for one in running.model.asked[-1]["messages"]] == [
        "ann: one", "You said: ann: one", "ann: two",
    ]  # fmt: skip
    running.stop()
    running.start()  # the chain is walked back
    service.say(service.general, ann, "three", reply_to=second["id"])
    running.hears("You said: ann: three")
    assert running.conversations(ann) == 1
    service.say(service.general, ann, f"{running.mention} four")
    running.hears("You said: ann: four")
    assert running.conversations(ann) == 2


def test_a_thread_is_a_conversation_in_which_nobody_needs_to_mention_us_twice(
    running: Mill,
) -> None:
    ann, service = running.knows("ann"), running.service
    thread = service.add_thread(service.general, "Tea", ann)
    service.say(thread, ann, "Only among us")
    service.say(thread, ann, f"{running.mention} one")
    running.hears("You said: ann: one", thread)
    service.say(thread, ann, "two")
    running.hears("You said: ann: two", thread)
    assert running.conversations(ann) == 1
    assert len(running.answers()) == 2


def test_a_thread_on_an_answer_of_ours_goes_on_with_its_conversation(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    service.say(service.general, ann, f"{running.mention} one")
    answer = running.hears("You said: ann: one")
    thread = service.add_thread(service.general, "More", ann, answer["id"])
    service.say(thread, ann, "two")
    running.hears("You said: ann: two", thread)
    service.say(thread, ann, "three")
    running.hears("You said: ann: three", thread)
    assert running.conversations(ann) == 1


def test_each_way_of_mentioning_us_is_one_and_none_of_them_reaches_the_model(
    running: Mill,
) -> None:
    ann, service, bot = running.knows("ann"), running.service, running.bot
    for number, text in enumerate(
        [f"<@{bot.id}> hi {{}}", f"<@!{bot.id}>: hi {{}}", f"hi {{}} <@{bot.id}>",
         f"<@&{bot.role}>, hi {{}}", f"<@{bot.id}> <@{bot.id}>\nhi {{}}"]
    ):  # fmt: skip
        service.say(service.general, ann, text.format(number))
        running.hears(f"You said: ann: hi {number}")


def test_other_people_and_channels_are_named_to_the_model(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    ben = service.add_user("ben")
    text = f"{running.mention} ask <@{ben}> in <#{service.general}> <:tea:123>"
    service.say(service.general, ann, text)
    running.hears("You said: ann: ask @ben in #general :tea:")


def test_ourselves_and_other_programs_are_never_answered(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    other = service.add_user("robot", bot=True)
    service.say(service.general, other, f"{running.mention} hello, colleague")
    service.say(service.general, ann, "joined", type=7)
    service.say(service.general, ann, f"{running.mention} hi")
    answer = running.hears("You said: ann: hi")
    service.say(service.general, running.bot.id, f"{running.mention} my own words")
    service.say(service.general, running.bot.id, "mine", reply_to=answer["id"])
    service.say(service.general, ann, f"{running.mention} bye")
    running.hears("You said: ann: bye")
    assert len(running.model.asked) == 2


def test_programs_that_answer_each_other_fall_quiet(mill: Mill) -> None:
    mill.configure(bots=True, guests=True, guest_requests=100)
    mill.start()
    other = mill.service.add_user("robot", bot=True)
    room = mill.direct(other)
    for number in range(30):
        mill.service.say(room, other, f"ping {number}")
        mill.service.until(lambda number=number: len(mill.answers(room)) > number)
        if "two machines" in mill.answers(room)[-1]:
            break
    assert "two machines" in mill.answers(room)[-1]
    before = len(mill.answers(room))
    mill.service.say(room, other, "still there?")
    ann = mill.knows("ann")
    mill.service.say(mill.direct(ann), ann, "hi")
    mill.hears("You said: hi", mill.direct(ann))
    assert len(mill.answers(room)) == before


def test_a_reply_to_anybody_brings_that_message_and_its_files(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    ben = service.add_user("ben")
    file = ("notes.txt", "text/plain", b"Buy green tea.")
    other = service.say(service.general, ben, "My list", files=[file])
    service.say(service.general, ann, f"{running.mention} what does it say?", reply_to=other)
    service.until(lambda: running.model.asked)
    told = str(running.model.asked[0]["messages"])
    assert "ben wrote:" in told
    assert "My list" in told
    assert "Buy green tea." in told
    assert "ann: what does it say?" in told


def test_a_file_that_is_too_large_is_named_and_not_fetched(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.configure()
    mill.start()
    ann = mill.knows("ann")
    room, service = mill.direct(ann), mill.service
    large = ("large.bin", "application/octet-stream", b"x" * (10 * 2**20 + 1))
    small = ("small.txt", "text/plain", b"four")
    service.say(room, ann, "look", files=[large, small])
    said = service.until(lambda: [text for text in mill.answers(room) if "large.bin" in text])
    assert said[0].startswith("- 'large.bin' is too large: 10.0 MiB, and 10.0 MiB is the most.")
    service.until(lambda: mill.model.asked)
    assert service.fetched == ["small.txt"]
    assert "[A file 'large.bin' was attached and cannot be read here.]" in str(mill.model.asked)


def test_speakers_are_told_apart_also_those_with_one_name(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    two = service.add_user("ann2")
    service.users[two]["global_name"] = "ann"
    code = running.house.accounts.identities.code(running.people[ann])
    running.house.accounts.identities.redeem(code, "discord", two)
    thread = service.add_thread(service.general, "Both", ann)
    service.say(thread, ann, f"{running.mention} I like tea")
    running.hears("You said: ann: I like tea", thread)
    service.say(thread, two, "And I do not")
    running.hears("You said: ann (@ann2): And I do not", thread)


def test_speakers_can_be_left_out(mill: Mill) -> None:
    mill.configure(speakers=False)
    mill.start()
    ann = mill.knows("ann")
    mill.service.say(mill.service.general, ann, f"{mill.mention} hi")
    mill.hears("You said: hi")


def test_a_prefix_calls_us(mill: Mill) -> None:
    mill.configure(prefix="!ai")
    mill.start()
    ann = mill.knows("ann")
    mill.service.say(mill.service.general, ann, "!ai hi")
    mill.hears("You said: ann: hi")


def test_lists_say_who_may_talk(mill: Mill) -> None:
    mill.configure(deny=["role:77"], allow=["server:*", "direct"])
    ann, ben = mill.knows("ann"), mill.knows("ben", roles=["77"])
    mill.start()
    service = mill.service
    service.say(service.general, ben, f"{mill.mention} me first")
    service.say(service.general, ann, f"{mill.mention} hi")
    mill.hears("You said: ann: hi")
    assert len(mill.answers()) == 1


def test_a_stranger_is_told_once_and_can_link_an_account(running: Mill) -> None:
    service = running.service
    eve = service.add_user("eve")
    room = running.direct(eve)
    service.say(room, eve, "hello?")
    service.until(lambda: running.answers(room))
    assert "--link" in running.answers(room)[0]
    service.say(room, eve, "hello??")
    person = running.house.accounts.people.create(
        running.admin, "eve@example.org", "Eve", "a long one, this"
    )
    code = running.house.accounts.identities.code(person)
    service.say(room, eve, f"—link {code}")  # as a phone writes two dashes
    running.hears("Linked: here you are Eve now, with your conversations and settings.", room)
    service.say(room, eve, "hello!")
    running.hears("You said: hello!", room)
    assert len(running.answers(room)) == 3


def test_a_guest_may_talk_as_far_as_their_quota_goes(mill: Mill) -> None:
    mill.configure(guests=True, guest_requests=2)
    mill.start()
    eve = mill.service.add_user("eve")
    room = mill.direct(eve)
    for number in (1, 2):
        mill.service.say(room, eve, f"number {number}")
        mill.hears(f"You said: number {number}", room)
    mill.service.say(room, eve, "number 3")
    said = mill.service.until(lambda: mill.answers(room)[2:])
    assert "⚠" in said[0]
    assert len(mill.model.asked) == 2


def test_an_edited_message_is_answered_anew_after_a_yes_alone(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    said = service.say(room, ann, "What is tea?")
    running.hears("You said: What is tea?", room)
    service.amend(said, "What is green tea?")
    words = "You changed your message. Shall I answer it anew? Answer `yes` or `no`."
    running.hears(words, room)
    assert len(running.model.asked) == 1
    service.say(room, ann, "yes")
    running.hears("You said: What is green tea?", room)
    assert len(running.model.asked) == 2


def test_a_command_is_no_message_for_a_model(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    service.say(room, ann, "--model")
    service.until(lambda: any("`mock` answers" in text for text in running.answers(room)))
    service.say(room, ann, "–models")  # an en dash
    service.until(lambda: any("- `mock`" in text for text in running.answers(room)))
    service.say(room, ann, "--modle")
    service.until(lambda: any("model" in text for text in running.answers(room)[2:]))
    service.say(room, ann, "we met – at ten – in town")
    running.hears("You said: we met – at ten – in town", room)
    assert len(running.model.asked) == 1


def test_nobody_but_the_asker_is_pinged_and_no_link_unfolds_whatever_a_model_says(
    running: Mill,
) -> None:
    ann, service = running.knows("ann"), running.service
    running.model.say = lambda _: [
        f"@everyone @here <@{ann}> <@&77> <b>bold</b> http://a.example/p.png"
    ]
    service.say(service.general, ann, f"{running.mention} go")
    answer = service.until(lambda: service.said_by(running.bot.id))[0]
    assert answer["content"].startswith("@everyone")
    assert service.pinged == [("replied", answer["content"])]
    assert answer["flags"] & 4, "links are not unfolded"


@pytest.mark.parametrize(
    "text",
    [
        "‮" + "مرحبا بالعالم" + "‬",
        "Z" + "\u0301\u0323" * 60 + "algo",
        "x " * 900,
        "​",
        "👩‍👩‍👧‍👦" * 50,
    ],
    ids=["right to left", "zalgo", "long", "nothing to see", "families"],
)
def test_odd_texts_are_answered(running: Mill, text: str) -> None:
    ann = running.knows("ann")
    running.model.say = lambda _: [f"{text} {text} {text}."]
    running.service.say(running.direct(ann), ann, text)
    running.service.until(lambda: running.answers(running.direct(ann)))
    assert len(running.model.asked) == 1
