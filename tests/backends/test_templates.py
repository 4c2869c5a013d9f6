"""Chat templates of strangers, in the sandbox."""

import pytest

from tests.servers import tiny_models
from wordmill.backends.templates import FOLDED, PLAIN, Template
from wordmill.errors import ConfigError, InvalidInput

SYSTEM = {"role": "system", "content": "Be short."}
HELLO = {"role": "user", "content": "Hello"}
SPECIAL = {"bos_token": "<bos>", "eos_token": "<end>"}


def test_a_system_message_goes_where_the_template_has_it():
    template = Template(tiny_models.TURNS, SPECIAL)
    assert template.notes == []
    assert template.tools
    assert template.render([SYSTEM, HELLO]).startswith("<|im_start|>system\nBe short.<|im_end|>")


def test_it_is_folded_where_there_is_no_role_for_it():
    template = Template(tiny_models.TURNS_GEMMA, SPECIAL)
    assert template.notes == [FOLDED]
    assert not template.tools
    assert template.render([SYSTEM, HELLO]) == (
        "<bos><start_of_turn>user\nBe short.\n\nHello<end_of_turn>\n<start_of_turn>model\n"
    )
    assert "<start_of_turn>user\nBe short." in template.render([SYSTEM])


def test_without_a_template_it_is_a_transcript():
    template = Template(None, {})
    assert template.notes == [PLAIN]
    assert template.render([SYSTEM, HELLO]) == "Be short.\n\nUser: Hello\n\nAssistant:"


def test_what_a_template_refuses_is_told_in_its_words():
    source = "{% if messages[0].role != 'user' %}{{ raise_exception('Users first') }}{% endif %}x"
    with pytest.raises(InvalidInput, match="refuses the conversation: Users first"):
        Template(source + "{{ messages }}", {}).render([{"role": "assistant", "content": "a"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for a in range(100000000) %}{% endfor %}",
        "{{ messages[0].missing.deeper }}",
    ],
)
def test_a_template_reaches_nothing_and_fails_in_a_sentence(source):
    template = Template(source, {})
    with pytest.raises(InvalidInput, match="The model's chat template"):
        template.render([HELLO])


def test_a_template_that_is_none_is_said_when_loading():
    with pytest.raises(ConfigError, match="chat template cannot be read"):
        Template("{% for %}", {})
