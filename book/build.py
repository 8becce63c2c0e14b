"""``make book``: the recorded notebooks, the pages and an explorer as one site, in ``build/book/html``. Nothing is executed.

Files keep their places beside each other, so that the links between them hold; whatever a page links to, it brings with it.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import explorer

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "book"
STUDIES = {"embedded": "The small model", "smollm2_pilot": "A real language model"}
PAGES = {
    "Use it": ["docs/your_own", "docs/cluster"],
    "How it works": ["docs/house", "docs/robustness", "results/benchmarks/README"],
}


def copied() -> Path:
    """What git knows of, in a folder of its own."""
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.endswith((".safetensors", ".bin")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    return source


def executed(source: Path, study: str) -> list[str]:
    """The executed notebooks of a recorded study, in their order, without their endings; code folds away."""
    found = sorted((source / "results/recorded" / study / "runs").glob("[0-9]*/*.ipynb"))
    first = {path.parent: path for path in reversed(found)}
    for path in first.values():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return [first[folder].relative_to(source).with_suffix("").as_posix() for folder in sorted(first)]


def index(source: Path) -> None:
    """README as the first page, and what the book has besides in its margin."""
    text = (source / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text)
    for page in [source / "README.md", *source.glob("results/recorded/*/findings.md")]:
        page.write_text(linked(page, page.read_text(encoding="utf-8")), encoding="utf-8")
    lines = [linked(source / "README.md", text), "", "```{toctree}", ":hidden:", "", "Explore the results <explore>", "```"]
    for study, caption in STUDIES.items():
        findings = f"results/recorded/{study}/findings"
        chapters = [*([findings] if (source / f"{findings}.md").exists() else []), *executed(source, study)]
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *chapters, "```"]
    for caption, pages in PAGES.items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]
    (source / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def linked(page: Path, text: str) -> str:
    """``text`` with links to a folder of executed notebooks made links to the notebook in it."""

    def to_notebook(match: re.Match[str]) -> str:
        folder = page.parent / match[1]
        found = sorted(folder.glob("*.ipynb")) if folder.is_dir() else []
        return f"]({match[1]}/{found[0].name})" if found else match[0]

    return re.sub(r"\]\(([^)#:]+)\)", to_notebook, text)


def main() -> None:
    """Build it; ends with the number of warnings that Sphinx has."""
    source = copied()
    index(source)
    shutil.copytree(ROOT / "book" / "_static", source / "book" / "_static", dirs_exist_ok=True)
    explorer.write(source, source / "explorer" / "explorer.html", STUDIES)
    (source / "explore.md").write_text(
        "# Explore the results\n\nEvery recorded perplexity. Choose a study, a corpus and a level; click a point for its numbers and its files.\n\n"
        '<iframe src="explorer.html" title="Explorer of all recorded perplexities" style="width:100%;height:46rem;border:0"></iframe>\n\n'
        "[Open it alone](explorer.html).\n",
        encoding="utf-8",
    )
    html = BUILD / "html"
    shutil.rmtree(html, ignore_errors=True)
    sys.exit(subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", ROOT / "book", source, html]).returncode)


if __name__ == "__main__":
    main()
