# SPDX-License-Identifier: Apache-2.0
"""Is a history of operations on one key linearizable?

The search of Wing and Gong with the cache of Lowe: among the operations that may come next
(no other one ended before they began) try each, and never the same set of operations done in
the same state twice.  An operation of unknown outcome may take effect at any time after it
began, or never.
"""
import math


class Op:
    """kind: "write" (value), "read" (value it gave), "cas" (value: (old, new), result: bool),
    "incr" (result: the new number)."""

    def __init__(self, kind, value, begin, end, result=None, unknown=False):
        self.kind, self.value, self.result = kind, value, result
        self.begin, self.end = begin, math.inf if unknown else end
        self.unknown = unknown

    def __repr__(self):
        what = f"{self.kind} {self.value!r}"
        if self.result is not None:
            what += f" -> {self.result!r}"
        return f"[{self.begin:.4f}..{self.end:.4f}] {what}{' ?' if self.unknown else ''}"


UNSEEN = object()  # any value that no operation asks for


class Search:
    """What the operations of a history may do, and which of them is worth trying."""

    def __init__(self, ops):
        self.ops = sorted((o for o in ops if not o.unknown or o.kind != "read"),
                          key=lambda o: o.begin)
        self.asked = {o.value for o in ops if o.kind == "read"}
        self.asked |= {o.value[0] for o in ops if o.kind == "cas"}

    def _written(self, value):
        return value if value in self.asked else UNSEEN

    def step(self, state, op):
        """(possible, the state behind it)."""
        if op.kind == "read":
            return state == op.value, state
        if op.kind == "write":
            return True, self._written(op.value)
        if op.kind == "cas":
            old, new = op.value
            fits = state == old
            if op.unknown:  # without effect it might as well never have come
                return fits, self._written(new)
            return fits == op.result, self._written(new) if fits else state
        number = int(state or 0) + 1
        return op.unknown or number == op.result, str(number)

    def _same(self, op):
        """Of unknown operations that do the same, the one that began first stands for all: any
        two could change places."""
        if op.kind == "write":
            return op.kind, self._written(op.value)
        if op.kind == "cas":
            return op.kind, op.value[0], self._written(op.value[1])
        return op.kind

    def in_turn(self, candidates):
        """What is to be tried, the likeliest last: known ones by their end."""
        known, unknown = [], {}
        for i in candidates:
            if self.ops[i].unknown:
                unknown.setdefault(self._same(self.ops[i]), i)
            else:
                known.append(i)
        return [*unknown.values(), *sorted(known, key=lambda i: -self.ops[i].end)]


def violation(ops, initial=None):
    """None if there is an order; else the operations around which none could be found."""
    search = Search(ops)
    ops = search.ops
    n = len(ops)
    known_behind = [0] * (n + 1)  # how many operations of known outcome from here on
    for i in range(n - 1, -1, -1):
        known_behind[i] = known_behind[i + 1] + (not ops[i].unknown)
    # A node: all before `first` is done, and of those from it on the ones in the mask.
    seen = set()
    stack = [(0, 0, initial)]
    farthest = 0
    while stack:
        first, done, state = stack.pop()
        while done & 1:
            first, done = first + 1, done >> 1
        farthest = max(farthest, first)
        known_done = sum(done >> i & 1 and not ops[first + i].unknown
                         for i in range(done.bit_length()))
        if known_behind[first] == known_done:
            return None
        horizon = math.inf  # no operation that began later may come next
        candidates = []
        for i in range(first, n):
            if ops[i].begin > horizon:
                break
            if done >> (i - first) & 1:
                continue
            horizon = min(horizon, ops[i].end)
            candidates.append(i)
        for i in search.in_turn(i for i in candidates if ops[i].begin <= horizon):
            possible, after = search.step(state, ops[i])
            if not possible:
                continue
            mask, base = done | 1 << (i - first), first
            while mask & 1:
                base, mask = base + 1, mask >> 1
            node = (base, mask, after)
            if node not in seen:
                seen.add(node)
                stack.append(node)
    return ops[max(0, farthest - 5):farthest + 15]
