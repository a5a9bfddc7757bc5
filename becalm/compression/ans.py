"""A stack of bits on which whole numbers are pushed and popped by their probabilities: asymmetric numeral systems (Duda 2009).

The coder is that of the package `constriction`: 64 bits of state, words of 32 bits, frequencies of 24 bits, all symbols of a call
in one go. Pushing a symbol of probability p adds −log₂ p bits; popping bits that are uniformly random samples a symbol from p.
"""

import math

import numpy as np

from becalm.core.files import InputError

WINDOW = 8.0
"""Standard deviations either side of the mean within which the bins of a Gaussian have probabilities of their own."""

MEAN_FRACTION = 16
"""Means are rounded to this fraction of a bin."""

MAX_ESCAPE = 1 << 23
"""Bins beyond the window that a pushed number may lie, at most."""

RESERVE_BITS = 512
"""Bits that always stay in the coder, so that it is never near its end."""


class DecodingError(ValueError):
    """The bits cannot have been encoded with these probabilities."""


def constriction_modules():
    """The modules `stack` and `model` of `constriction.stream`. Raises InputError where the package is missing."""
    try:
        from constriction import stream  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise InputError(f"compressing needs constriction ({error}); pip install 'becalm[compress]'") from error
    return stream.stack, stream.model


def initial_words(count: int) -> np.ndarray:
    """The initial bits: `count` words of a fixed random sequence (PCG64 of seed 0, low halves), its first word on top, last."""
    return (np.random.PCG64(0).random_raw(count) & 0xFFFFFFFF).astype(np.uint32)[::-1]


def whitening_words(height: int, count: int) -> np.ndarray:
    """Random words, a function of the stack's height alone (below 0 where initial words have been popped)."""
    return (np.random.PCG64((1 << 40) + height).random_raw(count) & 0xFFFFFFFF).astype(np.uint32)


class AnsStack:
    """The stack: words of 32 bits above the random initial words, which the first pops may take.

    Bits pushed with probabilities that are not the data's are not uniformly random, and numbers popped from them would not have
    the distribution asked for; with few steps that costs tenths of a bit. So before each pop of samples the words that it takes
    are whitened: `whitening_words` are added modulo 2.
    """

    def __init__(self, words: np.ndarray, n_initial: int):
        self.below = [words[:-2]]
        """The words below those that the coder holds, in pieces: the coder copies what it holds, so it is kept small."""
        self.coder, self.n_initial = constriction_modules()[0].AnsCoder(words[-2:]), n_initial

    @classmethod
    def fresh(cls, first: np.ndarray | None = None) -> "AnsStack":
        """The encoder's stack before anything is pushed: initial words, and above them the words `first`, the last one not 0."""
        words = initial_words(RESERVE_BITS // 16)
        return cls(words if first is None else np.concatenate([words, first]), RESERVE_BITS // 16)

    @classmethod
    def from_message(cls, words: np.ndarray, n_initial: int, n_unused: int) -> "AnsStack":
        """The decoder's stack: the words of `message` above the initial words that the message leaves out."""
        return cls(np.concatenate([initial_words(n_initial)[:n_unused], words]), n_initial)

    @property
    def height(self) -> int:
        """Words on the stack less the initial ones."""
        return self.coder.num_words() + sum(map(len, self.below)) - self.n_initial

    def words(self) -> np.ndarray:
        """All words, uint32, bottom first."""
        return np.concatenate([*self.below, self.coder.get_compressed()])

    def message(self) -> tuple[np.ndarray, int]:
        """The words without the initial ones at the bottom that were never popped, and how many these are."""
        words = self.words()
        common = min(len(words), self.n_initial)
        differs = words[:common] != initial_words(self.n_initial)[:common]
        n_unused = int(differs.argmax()) if differs.any() else common
        return words[n_unused:], n_unused

    def first_words(self) -> np.ndarray:
        """The words that `fresh` began with, once all else is popped. Raises DecodingError where the initial ones are others."""
        words = self.words()
        if not np.array_equal(words[: self.n_initial], initial_words(self.n_initial)):
            raise DecodingError("the bits do not come out even")
        return words[self.n_initial :]

    def load_words(self, count: int) -> None:
        """Move words from below into the coder until it holds `count` beside its reserve, or until none are left below."""
        missing = count + RESERVE_BITS // 32 - self.coder.num_words()
        if missing > 0:
            below = np.concatenate(self.below)
            below, moved = below[: max(0, len(below) - missing)], below[-missing:]
            self.below, self.coder = [below], coder_of(moved, self.coder.get_compressed())

    def ensure_words(self, count: int) -> None:
        """The same, with further initial words put beneath all others where there are too few."""
        self.load_words(count)
        missing = count + RESERVE_BITS // 32 - self.coder.num_words()
        if missing > 0:
            self.n_initial += missing
            self.coder = coder_of(initial_words(self.n_initial)[:missing], self.coder.get_compressed())

    def unload_words(self) -> None:
        """Move all words but the top two out of the coder."""
        words = self.coder.get_compressed()
        self.below, self.coder = [*self.below, words[:-2]], coder_of(words[-2:])

    def whiten(self, count: int) -> None:
        """Add `whitening_words` modulo 2 to the top `count` words and the coder's state, except its highest bit; self-inverse."""
        self.ensure_words(count)
        words, noise = self.coder.get_compressed(), whitening_words(self.height, count + 2)
        noise[-1] &= (1 << (int(words[-1]).bit_length() - 1)) - 1
        words[-2 - count :] ^= noise
        self.coder = coder_of(words)

    def pop_samples(self, mean: np.ndarray, std: float) -> np.ndarray:
        """Samples of N(mean, std²) rounded to whole numbers, taken from the (whitened) bits of the stack."""
        self.whiten(words_of_samples(len(mean), std))
        centre, model, offset = quantized_gaussian(mean, std, 0)
        return centre + self.coder.decode(model, offset)

    def push_samples(self, numbers: np.ndarray, mean: np.ndarray, std: float) -> None:
        """The inverse of `pop_samples`. Raises DecodingError for numbers that it cannot have given."""
        centre, model, offset = quantized_gaussian(mean, std, 0)
        reach = math.ceil(WINDOW * std)
        if (np.abs(numbers - centre) > reach).any():
            raise DecodingError("a latent lies where the encoder cannot have put it")
        self.coder.encode_reverse((numbers - centre).astype(np.int32), model, offset)
        self.whiten(words_of_samples(len(mean), std))

    def push_gaussian(self, numbers: np.ndarray, mean: np.ndarray, std: float) -> None:
        """Push whole numbers by N(mean, std²). One beyond the window becomes the window's last bin, an escape, and the excess.

        Raises FloatingPointError for an excess of MAX_ESCAPE bins.
        """
        centre, model, offset = quantized_gaussian(mean, std, 1)
        edge, distance = math.ceil(WINDOW * std) + 1, (numbers - centre).astype(np.int64)
        excess = np.abs(distance)[np.abs(distance) >= edge] - edge
        if (excess >= MAX_ESCAPE).any():
            raise FloatingPointError(
                f"the network errs by more than {MAX_ESCAPE} bins: it does not fit the images at all"
            )
        if len(excess):
            self.coder.encode_reverse(excess.astype(np.int32), constriction_modules()[1].Uniform(MAX_ESCAPE))
        self.coder.encode_reverse(np.clip(distance, -edge, edge).astype(np.int32), model, offset)

    def pop_gaussian(self, mean: np.ndarray, std: float) -> np.ndarray:
        """The inverse of `push_gaussian`."""
        self.load_words(2 * len(mean))
        centre, model, offset = quantized_gaussian(mean, std, 1)
        edge, distance = math.ceil(WINDOW * std) + 1, self.coder.decode(model, offset).astype(np.int64)
        escaped = np.abs(distance) == edge
        if escaped.any():
            excess = self.coder.decode(constriction_modules()[1].Uniform(MAX_ESCAPE), int(escaped.sum()))
            distance[escaped] += np.sign(distance[escaped]) * excess
        return centre + distance

    def push_categorical(self, v: np.ndarray, first: np.ndarray, weights: np.ndarray) -> None:
        """Push whole numbers v; row i of `weights` is proportional to the probabilities of first[i], first[i] + 1, …"""
        model = constriction_modules()[1].Categorical(perfect=False)
        self.coder.encode_reverse((v - first).astype(np.int32), model, weights)

    def pop_categorical(self, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The inverse of `push_categorical`."""
        self.load_words(len(first))
        return first + self.coder.decode(constriction_modules()[1].Categorical(perfect=False), weights)


def coder_of(*words: np.ndarray):
    """A coder that holds the concatenation of `words`."""
    return constriction_modules()[0].AnsCoder(np.concatenate(words))


def words_of_samples(count: int, std: float) -> int:
    """Words that `count` samples take, and eight standard errors more."""
    return math.ceil((count * gaussian_entropy(std) + 8 * math.sqrt(count)) / 32)


def gaussian_entropy(std: float) -> float:
    """Bits of entropy of N(·, std²) rounded to whole numbers, log₂(std √(2πe))."""
    return math.log2(std * math.sqrt(2 * math.pi * math.e))


def quantized_gaussian(mean: np.ndarray, std: float, extra: int):
    """The bin of each mean, the Gaussian about 0 on WINDOW standard deviations and `extra` bins, and each mean less its bin."""
    centre = np.rint(mean).astype(np.int64)
    reach = math.ceil(WINDOW * std) + extra
    model = constriction_modules()[1].QuantizedGaussian(-reach, reach, std=std)
    return centre, model, np.rint((mean - centre) * MEAN_FRACTION) / MEAN_FRACTION
