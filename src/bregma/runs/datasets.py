"""What ``bregma data`` shows and does: the data sets, where they come from, and what is here of them."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from bregma.data import DATASETS, DatasetInfo, default_root, fetch, locate, verify


def show_all(console: Console, root: Path | None) -> None:
    """One line per data set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "what", "licence", "here"):
        table.add_column(column, overflow="fold")
    for info in DATASETS.values():
        table.add_row(info.name, info.title, info.licence, _here(info, root))
    console.print(table)
    console.print(f"\nfolder of the data: {root or default_root()}", soft_wrap=True, markup=False)
    console.print("more of one, and its files: bregma data NAME; to download: bregma data NAME --fetch", soft_wrap=True)


def show_one(console: Console, name: str, root: Path | None) -> None:
    """All that is known of one data set, and the state of its files, each checked against its digest."""
    info = DATASETS[name]
    samples = ", ".join(f"{count:,} {part}" for part, count in info.counts)
    for key, value in (
        ("name", info.name),
        ("title", info.title),
        ("what", info.what),
        ("samples", f"{samples}; {info.classes} classes"),
        ("from", info.url),
        ("licence", info.licence),
        ("cite", info.citation),
    ):
        console.print(f"[bold]{key:8}[/] {value}", soft_wrap=True)
    for state in verify(name, root):
        where = f" ({escape(str(state.path))})" if state.path else ""
        console.print(f"[bold]{'file':8}[/] {state.name}: {state.state}{where}", soft_wrap=True)


def download(console: Console, name: str, root: Path | None) -> None:
    """Fetch the files of one data set with a progress bar."""
    with Progress(
        *Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True
    ) as bar:
        tasks: dict[str, object] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done, total=total)  # type: ignore[arg-type]

        paths = fetch(name, root, progress=progress)
    for path in paths:
        console.print(path, soft_wrap=True)
    if not paths:
        console.print(f"{name} needs no download")


def _here(info: DatasetInfo, root: Path | None) -> str:
    if not info.files:
        return "yes"
    found = sum(path is not None for path in locate(info.name, root))
    return "yes" if found == len(info.files) else f"{found} of {len(info.files)} files" if found else "no"
