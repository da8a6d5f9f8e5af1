"""WordNet 3.0 (Miller, "WordNet: a lexical database for English", CACM 1995) from Debian's package `wordnet-base`: texts, and
sentences labelled with the meaning they show. The one file that knows its format."""

import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS = ("noun", "verb", "adj", "adv")
SEED = 6


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning. `part`: of PARTS. `topic`: the lexicographer's file, 0 to 44. `examples`: sentences that show it."""

    part: str
    topic: int
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is searched."""
        return f"{', '.join(self.lemmas)}: {self.definition}"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A query and the row of the synset it must find. `with_lemma`: the sentence after the synset's first word."""

    sentence: str
    with_lemma: str
    row: int


def dictionary(cache: Path) -> Path:
    """The folder of WordNet's files: the system's where its package is installed, else fetched by apt into `cache`."""
    installed = Path("/usr/share/wordnet")
    fetched = cache / "wordnet"
    for folder in (installed, fetched / "usr/share/wordnet"):
        if (folder / "data.noun").exists():
            return folder
    fetched.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "--quiet", "wordnet-base"], cwd=fetched, check=True)
    [package] = fetched.glob("wordnet-base*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(fetched)], check=True)
    return fetched / "usr/share/wordnet"


def synsets(folder: Path) -> list[Synset]:
    """All 117,659 in the files' order."""
    return [each for part in PARTS for each in _read(folder / f"data.{part}", part)]


def labelled(found: list[Synset], count: int, *, seed: int = SEED) -> list[Labelled]:
    """`count` examples at random that have one of their synset's words as a whole word, no two the same."""
    pairs = {
        sentence: row
        for row, each in enumerate(found)
        for sentence in each.examples
        if _has_word(sentence, each.lemmas)
    }
    chosen = random.Random(seed).sample(sorted(pairs), min(count, len(pairs)))
    return [Labelled(each, f"{found[pairs[each]].lemmas[0]}: {each}", pairs[each]) for each in chosen]


def _has_word(sentence: str, words: tuple[str, ...]) -> bool:
    return any(re.search(rf"\b{re.escape(each.lower())}\b", sentence.lower()) for each in words)


def _read(path: Path, part: str) -> Iterator[Synset]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("  "):  # the licence
            yield parsed(line, part)


def parsed(line: str, part: str) -> Synset:
    """One line of a data file: numbers, words, pointers, then the gloss: a definition and quoted examples."""
    head, _, gloss = line.partition("|")
    words = head.split()
    count = int(words[3], 16)
    lemmas = tuple(_spelt(each) for each in words[4 : 4 + 2 * count : 2])
    examples = tuple(each.strip(" ;") for each in re.findall(r'"([^"]+)"', gloss))
    definition = re.split(r'[;:]?\s*"', gloss, maxsplit=1)[0].strip(" ;")
    return Synset(part, int(words[1]), lemmas, definition, tuple(each for each in examples if each))


def _spelt(lemma: str) -> str:
    return re.sub(r"\((a|p|ip)\)$", "", lemma).replace("_", " ")
