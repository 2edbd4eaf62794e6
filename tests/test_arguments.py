import pytest

from bert4keras.arguments import delete_arguments, insert_arguments

pytestmark = pytest.mark.pure


class Base:
    def __init__(self, layers, with_pool=False):
        self.layers, self.with_pool = layers, with_pool


class Child(Base):
    @insert_arguments(summary=False, top=None)
    @delete_arguments("with_pool")
    def __init__(self, layers, **kwargs):
        """Documented."""
        self.summary_was = self.summary
        super().__init__(layers, **kwargs)


def test_inserted_arguments_are_attributes_before_the_method_runs():
    child = Child(12, summary=True)
    assert (child.layers, child.summary, child.top, child.summary_was) == (
        12,
        True,
        None,
        True,
    )


def test_deleted_arguments_are_refused():
    with pytest.raises(TypeError, match=r"Child got an .* argument 'with_pool'"):
        Child(12, with_pool=True)


def test_the_method_keeps_its_documentation():
    assert Child.__init__.__doc__ == "Documented."
