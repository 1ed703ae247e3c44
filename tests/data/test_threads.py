import threading
import time

import pytest

from alexnet_jax.data.threads import in_order


def test_results_keep_their_order():
    def work(i):
        time.sleep(0.002 * (i % 3))
        return i**2

    assert list(in_order(work, range(60), ahead=7)) == [i**2 for i in range(60)]


@pytest.mark.parametrize("ahead", [0, 3, 100])
def test_only_so_many_items_are_taken_ahead(ahead):
    taken = iter(range(40))
    results = in_order(lambda i: i, taken, ahead)
    for i in range(3):
        assert next(results) == i
    assert next(taken, 40) == min(40, 3 + ahead)


def test_a_fault_comes_through():
    results = in_order(lambda i: 1 / (i - 5), range(100), ahead=20)
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_an_abandoned_iterator_is_closed_without_waiting_for_its_threads():
    """The garbage collector closes it while any lock may be held: to wait could be for ever."""
    ended, begun, finished = threading.Event(), threading.Event(), []

    def work(i):
        if i:
            begun.set()
            ended.wait(5)
            finished.append(i)
        return i

    results = in_order(work, range(10), ahead=3)
    assert next(results) == 0
    assert begun.wait(10)
    results.close()
    assert not finished
    ended.set()
