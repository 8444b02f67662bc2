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


def step(state, op):
    """(possible, the state behind it)."""
    if op.kind == "read":
        return state == op.value, state
    if op.kind == "write":
        return True, op.value
    if op.kind == "cas":
        old, new = op.value
        fits = state == old
        if op.unknown:
            return True, new if fits else state
        return fits == op.result, new if fits else state
    number = int(state or 0) + 1
    if op.unknown:
        return True, str(number)
    return number == op.result, str(number)


def useful(ops):
    """Without what can't matter: unknown reads, and what is unknown and wrote what nobody saw,
    for it may as well never have taken effect.  That leaves out who alone saw another one."""
    while True:
        seen = {o.value for o in ops if o.kind == "read"}
        seen |= {o.value[0] for o in ops if o.kind == "cas" and (o.unknown or o.result)}
        kept = [o for o in ops if not o.unknown or o.kind == "incr" or
                o.kind == "write" and o.value in seen or o.kind == "cas" and o.value[1] in seen]
        if len(kept) == len(ops):
            return sorted(kept, key=lambda o: o.begin)
        ops = kept


def in_turn(ops, candidates):
    """What is to be tried, the likeliest last: known ones by their end, behind what is unknown.
    Of unknown increments the one that began first stands for all: any two could change places."""
    unknown = [i for i in candidates if ops[i].unknown]
    increments = [i for i in unknown if ops[i].kind == "incr"]
    known = [i for i in candidates if not ops[i].unknown]
    return ([i for i in unknown if ops[i].kind != "incr"] + increments[:1] +
            sorted(known, key=lambda i: -ops[i].end))


def violation(ops, initial=None):
    """None if there is an order; else the operations around which none could be found."""
    ops = useful(ops)
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
        for i in in_turn(ops, [i for i in candidates if ops[i].begin <= horizon]):
            possible, after = step(state, ops[i])
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
