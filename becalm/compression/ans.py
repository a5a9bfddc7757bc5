"""A stack of bits (asymmetric numeral systems, Duda 2009) on which whole numbers are pushed and popped by their probabilities.

The coder is `constriction`'s: 64 bits of state, words of 32 bits, frequencies of 24 bits, all symbols of a call in one go.
"""

import math

import numpy as np

from becalm.core.files import InputError

WINDOW = 8.0
"""Standard deviations either side of the mean within which Gaussians have cells of their own."""

FRACTION = 16
"""Means are rounded to this share of a cell."""

FAR = 1 << 23
"""Cells beyond the window that a number pushed may lie."""

SPARE = 512
"""Bits that always stay, so that the coder is never near its end."""


class Uneven(ValueError):
    """What is decoded cannot have been coded with these numbers."""


def coder():
    """The module of stacks and that of distributions."""
    try:
        from constriction import stream  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise InputError(f"compressing needs constriction ({error}); pip install 'becalm[compress]'") from error
    return stream.stack, stream.model


def random_words(count: int) -> np.ndarray:
    """The first words of a fixed random sequence (PCG64 of seed 0, low halves), the first one last: it lies on top."""
    return (np.random.PCG64(0).random_raw(count) & 0xFFFFFFFF).astype(np.uint32)[::-1]


def pad(height: int, count: int) -> np.ndarray:
    """Random words that depend on the height of a stack alone, which is below 0 where it has lost random ones."""
    return (np.random.PCG64((1 << 40) + height).random_raw(count) & 0xFFFFFFFF).astype(np.uint32)


class Stack:
    """Bits, the last ones pushed on top, above random ones that the first pops may take.

    What was pushed by probabilities that are not the true ones is not random, and numbers popped from it would not be distributed
    as asked; with few steps that costs tenths of a bit. So words are added to a `pad` modulo 2 before each pop of samples.
    """

    def __init__(self, words: np.ndarray, initial: int):
        self.low = [words[:-2]]
        """All but the top, in pieces; the coder copies what it holds and had better hold little."""
        self.ans, self.initial = coder()[0].AnsCoder(words[-2:]), initial

    @classmethod
    def random(cls) -> "Stack":
        """The encoder's stack before anything is pushed."""
        return cls(random_words(SPARE // 16), SPARE // 16)

    @classmethod
    def read(cls, words: np.ndarray, initial: int, unused: int) -> "Stack":
        """The decoder's: what was `written` upon the random words left out."""
        return cls(np.concatenate([random_words(initial)[:unused], words]), initial)

    @property
    def height(self) -> int:
        """How many words there are more than at first."""
        return self.ans.num_words() + sum(map(len, self.low)) - self.initial

    def words(self) -> np.ndarray:
        """All of them, bottom first."""
        return np.concatenate([*self.low, self.ans.get_compressed()])

    def written(self) -> tuple[np.ndarray, int]:
        """The words above those random ones that were never touched, and the number of these."""
        words = self.words()
        common = min(len(words), self.initial)
        differs = words[:common] != random_words(self.initial)[:common]
        unused = int(differs.argmax()) if differs.any() else common
        return words[unused:], unused

    def as_at_first(self) -> bool:
        """Whether nothing but the random words is left."""
        return np.array_equal(self.words(), random_words(self.initial))

    def lift(self, count: int) -> None:
        """Give the coder so many words of those below it, or all."""
        missing = count + SPARE // 32 - self.ans.num_words()
        if missing > 0:
            low = np.concatenate(self.low)
            low, more = low[: max(0, len(low) - missing)], low[-missing:]
            self.low, self.ans = [low], joined(more, self.ans.get_compressed())

    def need(self, count: int) -> None:
        """Give the coder so many words, from those below it or else random ones put beneath all others."""
        self.lift(count)
        missing = count + SPARE // 32 - self.ans.num_words()
        if missing > 0:
            self.initial += missing
            self.ans = joined(random_words(self.initial)[:missing], self.ans.get_compressed())

    def settle(self) -> None:
        """Take all but the top off the coder."""
        held = self.ans.get_compressed()
        self.low, self.ans = [*self.low, held[:-2]], joined(held[-2:])

    def whiten(self, count: int) -> None:
        """Add the pad to so many words and to the coder's state but its highest bit; done twice, nothing has changed."""
        self.need(count)
        held, more = self.ans.get_compressed(), pad(self.height, count + 2)
        more[-1] &= (1 << (int(held[-1]).bit_length() - 1)) - 1
        held[-2 - count :] ^= more
        self.ans = joined(held)

    def pop_sampled(self, mean: np.ndarray, std: float) -> np.ndarray:
        """Numbers ~ N(mean, std²) rounded to whole ones, drawn with the bits of the stack."""
        self.whiten(taken(len(mean), std))
        centre, model, rest = windowed(mean, std, 0)
        return centre + self.ans.decode(model, rest)

    def push_sampled(self, numbers: np.ndarray, mean: np.ndarray, std: float) -> None:
        """Undo `pop_sampled`."""
        centre, model, rest = windowed(mean, std, 0)
        reach = math.ceil(WINDOW * std)
        if (np.abs(numbers - centre) > reach).any():
            raise Uneven("a latent lies where the encoder cannot have put it")
        self.ans.encode_reverse((numbers - centre).astype(np.int32), model, rest)
        self.whiten(taken(len(mean), std))

    def push_normal(self, numbers: np.ndarray, mean: np.ndarray, std: float) -> None:
        """Code whole numbers by N(mean, std²); one beyond the window takes the window's last cell and how far beyond it is."""
        centre, model, rest = windowed(mean, std, 1)
        edge, away = math.ceil(WINDOW * std) + 1, (numbers - centre).astype(np.int64)
        beyond = np.abs(away)[np.abs(away) >= edge] - edge
        if (beyond >= FAR).any():
            raise FloatingPointError(f"the network errs by more than {FAR} cells: it does not fit the images at all")
        if len(beyond):
            self.ans.encode_reverse(beyond.astype(np.int32), coder()[1].Uniform(FAR))
        self.ans.encode_reverse(np.clip(away, -edge, edge).astype(np.int32), model, rest)

    def pop_normal(self, mean: np.ndarray, std: float) -> np.ndarray:
        """Undo `push_normal`."""
        self.lift(2 * len(mean))
        centre, model, rest = windowed(mean, std, 1)
        edge, away = math.ceil(WINDOW * std) + 1, self.ans.decode(model, rest).astype(np.int64)
        outside = np.abs(away) == edge
        if outside.any():
            beyond = self.ans.decode(coder()[1].Uniform(FAR), int(outside.sum()))
            away[outside] += np.sign(away[outside]) * beyond
        return centre + away

    def push_level(self, v: np.ndarray, start: np.ndarray, table: np.ndarray) -> None:
        """Code v, v − start a place in each row of the table of weights."""
        self.ans.encode_reverse((v - start).astype(np.int32), coder()[1].Categorical(perfect=False), table)

    def pop_level(self, start: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Undo `push_level`."""
        self.lift(len(start))
        return start + self.ans.decode(coder()[1].Categorical(perfect=False), table)


def joined(*words: np.ndarray):
    """A coder that holds these words."""
    return coder()[0].AnsCoder(np.concatenate(words))


def taken(count: int, std: float) -> int:
    """Words that so many samples take, and eight standard errors more."""
    return math.ceil((count * bits_of(std) + 8 * math.sqrt(count)) / 32)


def bits_of(std: float) -> float:
    """Entropy of a Gaussian rounded to whole numbers."""
    return math.log2(std * math.sqrt(2 * math.pi * math.e))


def windowed(mean: np.ndarray, std: float, more: int):
    """The cell of each mean, the Gaussian about it in a window wider by `more`, and the means' rest, in sixteenths."""
    centre = np.rint(mean).astype(np.int64)
    reach = math.ceil(WINDOW * std) + more
    return centre, coder()[1].QuantizedGaussian(-reach, reach, std=std), np.rint((mean - centre) * FRACTION) / FRACTION
