"""``make book``: the recorded notebooks, the pages and an explorer as one site, in ``build/book/html``. Nothing is executed.

Files keep their places beside each other, so that the links between them hold; whatever a page links to, it brings with it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import explorer

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "book"
STUDIES = {"smollm2_pilot": "A real language model", "embedded": "The small model"}
SHOWN = re.compile("s75(-soft_prompt)?$")
"""Of several cells of one kind, the book shows this one."""
WIDGET = "application/vnd.jupyter.widget-view+json"
PAGES = {
    "Use it": ["docs/your_own", "docs/cluster", "docs/data"],
    "How it works": ["docs/house", "CONTRIBUTING", "docs/robustness", "results/benchmarks/README", "CHANGELOG"],
}


def copied() -> Path:
    """Copy the files that git tracks, without weights, into a folder of their own."""
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.endswith((".safetensors", ".bin")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    return source


def executed(source: Path, study: str) -> list[str]:
    """The executed notebooks of a recorded study, in their order, without their endings."""
    found = sorted(
        (source / "results/recorded" / study / "runs").glob("[0-9]*/*.ipynb"), key=lambda path: (not SHOWN.search(path.stem), path)
    )
    first = {path.parent: path for path in reversed(found)}
    for path in set(found) - set(first.values()):
        path.unlink()  # of each kind of cell one is shown
    for path in first.values():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["metadata"].pop("widgets", None)
        for_readers(notebook["cells"], path.parent)
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return [first[folder].relative_to(source).with_suffix("").as_posix() for folder in sorted(first)]


def for_readers(cells: list[dict[str, Any]], folder: Path) -> None:
    """Fold the code away, give each picture the words before it for those who do not see it, and drop the link to this very page, and bars."""

    def to_executed(match: re.Match[str]) -> str:
        found = sorted((folder.parent / match[2]).glob("*.ipynb"))
        return f"[{match[1]}](../{match[2]}/{found[0].name})" if found else match[1]

    said = ""
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = re.sub(r"(?m)^\[With its tables[^]]*\]\(.*$", "", text)
            cell["source"] = re.sub(r"\[([^]]+)\]\((\w+)\.ipynb\)", to_executed, text)
            said = " ".join(re.sub(r"[#*`\[\]]|\(\S*\)", "", text).split())[:300] or said
        elif cell["cell_type"] == "code":
            tags = cell["metadata"].get("tags", [])
            cell["metadata"] |= {"tags": [*tags, "hide-input"], "mystnb": {"image": {"alt": said}}}
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
            for output in cell["outputs"]:
                if words := output.get("data", {}).get("text/markdown"):
                    output["data"]["text/markdown"] = linked(folder.parent.parent / "findings.md", "".join(words), folder)


def index(source: Path) -> None:
    """Write the first page: README, and the table of contents."""
    text = (source / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text)
    for page in source.glob("results/recorded/*/findings.md"):
        called = f"# All claims and cells\n\n{linked(page, page.read_text(encoding='utf-8'))}"
        page.write_text(called, encoding="utf-8")
    page = source / "docs/results.md"
    page.write_text(linked(page, page.read_text(encoding="utf-8")), encoding="utf-8")
    lines = [
        linked(source / "README.md", text),
        "",
        "```{toctree}",
        ":hidden:",
        "",
        "docs/results",
        "Explore the results <explore>",
        "```",
    ]
    for study, caption in STUDIES.items():
        findings = f"results/recorded/{study}/findings"
        chapters = [*([findings] if (source / f"{findings}.md").exists() else []), *executed(source, study)]
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *chapters, "```"]
    for caption, pages in PAGES.items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]
    (source / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def linked(page: Path, text: str, seen_from: Path | None = None) -> str:
    """``text`` of ``page``, with links to a folder of executed notebooks made links to the notebook in it, for a page in another folder."""

    def to_notebook(match: re.Match[str]) -> str:
        folder = page.parent / match[1]
        found = sorted(folder.glob("*.ipynb")) if folder.is_dir() else []
        if not found:
            return match[0] if folder.exists() else "]()" if seen_from else match[0]
        if seen_from:  # Sphinx finds no pages in what a cell printed
            return f"]({os.path.relpath(found[0].with_suffix('.html'), seen_from)})"
        return f"]({os.path.relpath(found[0], page.parent)})"

    return re.sub(r"\]\(([^)#:]+)\)", to_notebook, text)


def main() -> None:
    """Build it, and end with Sphinx's exit code."""
    source = copied()
    index(source)
    explorer.write(source, source / "explorer" / "explorer.html", STUDIES)
    (source / "explore.md").write_text(
        "# Explore the results\n\nEvery recorded perplexity. Choose a study, a corpus and a level. A point leads to its file.\n\n"
        '<iframe src="explorer.html" title="Explorer of all recorded perplexities" style="width:100%;height:46rem;border:0"></iframe>\n\n'
        '<a href="explorer.html">Open it alone</a>.\n',
        encoding="utf-8",
    )
    html = BUILD / "html"
    shutil.rmtree(html, ignore_errors=True)
    sys.exit(subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", ROOT / "book", source, html]).returncode)


if __name__ == "__main__":
    main()
