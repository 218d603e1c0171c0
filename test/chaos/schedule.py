"""When which fault comes: seeded decks. Level 0 has none; 1 has one after another; 2 has a second
one beside it, on other servers; 3 has two beside it, one of which is always a promotion.

A deck holds each kind once and is shuffled anew when it is empty, so that each comes before any
comes again.
"""

import random
import threading

from faults import ALL, BESIDE, TOPOLOGY


class Deck:
    def __init__(self, kinds, chance):
        self.kinds, self.chance, self.cards = kinds, chance, []

    def draw(self):
        if not self.cards:
            self.cards = self.chance.sample(self.kinds, len(self.kinds))
        return self.cards.pop()


def decks(level, kinds):
    """The kinds of faults for each that runs beside the others."""
    chosen = [k for k in ALL if k in kinds]
    beside = [k for k in BESIDE if k in kinds] or chosen
    promotions = [k for k in TOPOLOGY if k in kinds] or chosen
    return {0: [], 1: [chosen], 2: [chosen, beside], 3: [promotions, beside, beside]}[level]


class Nemesis:
    """Runs the schedule in threads of its own until it is told to end."""

    def __init__(self, faults, level, kinds, seed, longest):
        self.faults, self.longest = faults, longest
        self.threads = [
            threading.Thread(target=self.run, args=(kinds, seed * 1000 + i, i == 0), daemon=True)
            for i, kinds in enumerate(decks(level, kinds))]

    def start(self):
        for thread in self.threads:
            thread.start()

    def run(self, kinds, seed, first):
        """The first one waits for what it needs; the others take what is free."""
        chance = random.Random(seed)
        deck, shards = Deck(kinds, chance), sorted(self.faults.nodes)
        self.faults.nap(chance.uniform(0.3, 0.8))
        while not self.faults.ending.is_set():
            kind, shard = deck.draw(), chance.choice(shards)
            seconds = chance.uniform(0.3, self.longest)
            self.faults.inject(kind, shard, seconds, wait=first)
            self.faults.nap(chance.uniform(0.2, 0.8))

    def end(self):
        self.faults.ending.set()
        for thread in self.threads:
            thread.join()
