"""``count.py extra|plain|definition FILE``: words and letters of a file, and what of the processor counting them took.

extra: with the extra `fast`; plain: with the standard library alone; definition: what both must agree with.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def definition(path: str) -> tuple[int, int]:
    """What a word and a letter is."""
    text = Path(path).read_text(encoding="utf-8")
    return len(text.split()), sum(character.isalpha() for character in text)


if __name__ == "__main__":
    how, file = sys.argv[1:]
    if how == "plain":
        os.environ["CLAIMWORK_WORDCOUNT"] = "plain"
    from claimwork import wordcount

    wordcount.count_bytes(b"")  # the choice of a kernel is made once in a process
    began = time.process_time()
    if how == "definition":
        words, letters = definition(file)
    else:
        counted = wordcount.count_path(file)
        words, letters = counted.words, counted.letters
    took_s = time.process_time() - began
    json.dump({"counted": [words, letters], "took_s": took_s}, sys.stdout)
