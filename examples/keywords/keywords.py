#!/usr/bin/env python3
"""Tell what a text is about: its keywords, as Rose, Engel, Cramer and Cowley find them (RAKE, 2010), and a few counts.

Phrases are what stands between stop words and punctuation. A word scores by the company it keeps: the words of all its phrases, divided by how often it
comes. A phrase scores what its words do. Reads INPUT_FILE_PATH, writes into TMP_OUTPUT_DIR.
"""

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

MOST = 8
LONGEST = 3  # words of a phrase
WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
BREAK = re.compile(r"[.,;:!?()\"\u201c\u201d\u2014\n]+|--")
STOP = frozenset(
    WORD.findall(
        """a about above after again all also am an and any are as at be because been before being below between both but by can cannot could did
        do does doing down during each few for from further had has have having he her here him his how i if in into is it its itself like little
        many me more most much my never no nor not nothing now of off on once one only or other our out over own perhaps same she should so some
        such than that the their them then there these they this those through to too two under until up upon us very was we were what when where
        which while who whom why will with without would you your"""
    )
)

source = Path(os.environ["INPUT_FILE_PATH"])
text = source.read_text(encoding="utf-8", errors="replace")
words = WORD.findall(text)
if not words:
    sys.exit(f"{source.name} has no words")

phrases: list[tuple[str, ...]] = []
for part in BREAK.split(text.lower()):
    phrase: list[str] = []
    for word in [*WORD.findall(part), "the"]:
        if word not in STOP:
            phrase.append(word)
        elif phrase:
            phrases.append(tuple(phrase))
            phrase = []

often: Counter[str] = Counter()
company: Counter[str] = Counter()
for found in phrases:
    for word in found:
        often[word] += 1
        company[word] += len(found)
score = {found: sum(company[word] / often[word] for word in found) for found in phrases if len(found) <= LONGEST}
best = sorted(score, key=lambda found: (-score[found], found))[:MOST]
result = {
    "text": source.stem,
    "words": len(words),
    "distinct": len({word.lower() for word in words}),
    "keywords": [" ".join(found) for found in best],
    "frequent": [word for word, _ in sorted(often.items(), key=lambda item: (-item[1], item[0]))[:MOST]],
}
Path(os.environ["TMP_OUTPUT_DIR"], f"{source.stem}.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")
print(f"{source.name}: {len(words)} words, about {', '.join(result['keywords'][:3])}")
