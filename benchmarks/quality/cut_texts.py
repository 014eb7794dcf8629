"""Cuts text files, or a folder's .txt files, into documents, one line of JSON each: the study's second text.

    python benchmarks/quality/cut_texts.py FOLDER_OR_FILE… > corpora/texts.jsonl
    ssrnn bench quality benchmarks/quality/stdlib.yaml --set name=texts --set 'data.build.sources=[corpora/texts.jsonl]'
        --set data.build.holdout=0.1 --set data.index=corpora/texts --out benchmarks/results/quality-texts

WikiText's articles, each begun by a line " = Title = "; of any other text paragraphs, gathered to 4,000 characters."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ARTICLE = re.compile(r"^(?= = [^=].*[^=] = $)", re.MULTILINE)
ENOUGH_CHARACTERS = 4000


def documents(text: str) -> Iterator[str]:
    articles = [article for article in ARTICLE.split(text) if article.strip()]
    if len(articles) > 1:
        yield from articles
        return
    gathered = ""
    for paragraph in re.split(r"(?<=\n)\n+", text):
        gathered += paragraph + "\n"
        if len(gathered) >= ENOUGH_CHARACTERS:
            yield gathered
            gathered = ""
    if gathered.strip():
        yield gathered


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for given in map(Path, sys.argv[1:]):
        for path in sorted(given.glob("*.txt")) if given.is_dir() else [given]:
            for document in documents(path.read_text(encoding="utf-8")):
                print(json.dumps({"text": document, "from": path.name}, ensure_ascii=False))
