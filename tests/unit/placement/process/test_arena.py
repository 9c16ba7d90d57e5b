import gc
import os

import numpy as np
import pytest

from hostler.core import Code, HostlerError
from hostler.placement.process.allocator import Allocator
from hostler.placement.process.arena import Arena

PAGE = 4096


def opened(arena, size):
    region, mapping = arena.allocate(size)
    if mapping is not None:
        os.close(mapping[0])
    return region, mapping


def test_allocator_joins_freed_neighbours():
    allocator = Allocator(4 * PAGE)
    offsets = [allocator.allocate(PAGE) for _ in range(4)]
    assert offsets == [0, PAGE, 2 * PAGE, 3 * PAGE]
    assert allocator.allocate(1) is None
    for offset in (PAGE, 3 * PAGE, 2 * PAGE, 0):
        allocator.free(offset)
    assert allocator.gaps() == [(0, 4 * PAGE)]
    with pytest.raises(KeyError):
        allocator.free(0)


def test_the_lowest_gap_that_fits_is_taken():
    allocator = Allocator(8 * PAGE)
    first, _second, third = (allocator.allocate(n * PAGE) for n in (1, 1, 2))
    allocator.free(first)
    allocator.free(third)
    assert allocator.allocate(2 * PAGE) == 2 * PAGE
    assert allocator.allocate(PAGE) == 0


def test_an_arena_maps_nothing_until_it_is_used_and_grows_by_need():
    arena = Arena(1 << 16, 1 << 20)
    _, mapping = opened(arena, 100)
    assert mapping is not None
    assert mapping[1] == 1 << 16
    _, again = opened(arena, 100)
    assert again is None
    _, larger = opened(arena, 300_000)
    assert larger is not None
    assert larger[1] == 1 << 19


def test_a_batch_above_the_limit_is_refused_with_the_numbers():
    arena = Arena(1 << 16, 1 << 17)
    with pytest.raises(HostlerError, match=r"200000 bytes .* 131072") as caught:
        arena.allocate(200_000)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_a_full_arena_refuses_rather_than_reuses():
    arena = Arena(1 << 16, 1 << 16)
    region, _ = opened(arena, 1 << 16)
    with pytest.raises(HostlerError, match="65536 are in use"):
        arena.allocate(1)
    region.release()
    assert opened(arena, 1 << 16)[1] is None


def test_a_region_is_free_once_released_and_no_view_is_left():
    arena = Arena(1 << 16, 1 << 16)
    region, _ = opened(arena, PAGE)
    region.array(0, 8)[:] = np.arange(8)
    root = region.shared(0, 8)
    view = root[2:4].view(np.uint16)
    raw = memoryview(view.data)
    region.release()
    del root, view
    gc.collect()
    assert arena.used_bytes == PAGE
    assert raw.tolist() == [2 + 3 * 256]
    del raw
    gc.collect()
    assert arena.used_bytes == 0


def test_shared_views_are_read_only_and_bounded():
    arena = Arena(1 << 16, 1 << 16)
    region, _ = opened(arena, PAGE)
    with pytest.raises(ValueError, match="read-only"):
        region.shared(0, 8)[0] = 1
    with pytest.raises(ValueError, match="outside"):
        region.array(PAGE - 1, 2)


def test_views_outlive_growth_and_drop():
    arena = Arena(1 << 16, 1 << 20)
    region, _ = opened(arena, PAGE)
    region.array(0, 4)[:] = 7
    root = region.shared(0, 4)
    opened(arena, 1 << 18)
    arena.drop()
    assert root.tolist() == [7, 7, 7, 7]


def test_trim_clears_only_an_idle_arena():
    arena = Arena(1 << 20, 1 << 20)
    region, _ = opened(arena, 1 << 19)
    region.array(0, 1 << 19)[:] = 1
    assert arena.trim() == 0
    region.release()
    assert arena.trim() == 1 << 19
    assert arena.trim() == 0
    again, _ = opened(arena, 1 << 19)
    assert not again.array(0, 1 << 19).any()


def test_crowded_by_others_only():
    arena = Arena(1 << 16, 1 << 16)
    assert not arena.crowded(None)
    own, _ = opened(arena, 10 * PAGE)
    assert not arena.crowded(own)
    assert arena.crowded(None)
    opened(arena, 6 * PAGE)
    assert not arena.crowded(own)
    own.release()
    opened(arena, 9 * PAGE)
    assert arena.crowded(None)
