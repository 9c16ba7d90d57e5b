import itertools

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hostler.placement.process.allocator import PAGE_BYTES, Allocator

CAPACITY = 64 * PAGE_BYTES


class AllocatorMachine(RuleBasedStateMachine):
    """Against a model that knows of every page whether it is taken."""

    taken = Bundle("taken")

    def __init__(self):
        super().__init__()
        self.allocator = Allocator(CAPACITY)
        self.pages = [None] * 64

    @rule(target=taken, size=st.integers(1, CAPACITY // 3))
    def allocate(self, size):
        need = -(-size // PAGE_BYTES)
        offset = self.allocator.allocate(size)
        runs = "".join("." if page is None else "#" for page in self.pages)
        if offset is None:
            assert "." * need not in runs
            return None
        first = offset // PAGE_BYTES
        assert first == runs.index("." * need)
        self.pages[first : first + need] = [offset] * need
        return offset

    @rule(offset=consumes(taken))
    def free(self, offset):
        if offset is not None:
            self.allocator.free(offset)
            self.pages = [None if page == offset else page for page in self.pages]

    @invariant()
    def agrees(self):
        free_pages = [i for i, page in enumerate(self.pages) if page is None]
        gaps = self.allocator.gaps()
        listed = [
            page
            for offset, size in gaps
            for page in range(offset // PAGE_BYTES, (offset + size) // PAGE_BYTES)
        ]
        assert listed == free_pages
        assert all(a + size < b for (a, size), (b, _) in itertools.pairwise(gaps))
        assert self.allocator.used == (64 - len(free_pages)) * PAGE_BYTES


TestAllocator = AllocatorMachine.TestCase
