"""The benchmark of the node index measures what it says."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.micro.node_index import render, run


def test_every_figure_is_measured() -> None:
    """A thousand pods cost something of each kind, and the table shows them."""
    # In a process of its own, for memory is counted over all threads of one.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        cost = pool.submit(run, pods=1_000, nodes=20).result()
    assert 100_000 < cost.memory_bytes < 2_000_000
    assert min(cost.list_s, cost.decision_us, cost.change_us) > 0
    assert "| 1,000 | 20 |" in render([cost])
