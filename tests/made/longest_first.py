"""Files in the order of what they took, the longest first: with one of them begun last, all but one core would wait.

What each took is kept in pytest's cache by every run of the whole suite, so that the order follows the tests by itself.
`LONGEST` stands in where nothing was measured yet, as in a fresh clone; a run that finds it out of date says so.
"""

from collections import Counter

import pytest

LONGEST = (
    "test_onnx", "test_faults", "test_object_stores", "test_imports", "test_pretrain", "test_adapt", "test_symmetric",
    "test_ranks", "test_wheel", "test_tables", "test_every_generator", "test_stats", "test_prepare", "test_proxies",
    "test_slurm",
    "test_hostile", "test_append", "test_rehydrate", "test_tasks", "test_segmentation_tasks", "test_real_tumour",
    "test_segment", "test_train_export", "test_batch_norm", "test_recombine",
)  # fmt: skip
_KEPT = "longest_first/seconds"
_LONG = 0.02  # of the whole: a file that takes more is to begin early


class LongestFirst:
    """A plugin of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.took: Counter[str] = Counter()

    @property
    def cache(self) -> pytest.Cache | None:
        return getattr(self.config, "cache", None)  # there is none with -p no:cacheprovider

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        seconds = self.cache.get(_KEPT, {}) if self.cache else {}
        guessed = {name: len(LONGEST) - number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: -(seconds or guessed).get(item.path.stem, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.location[0].rpartition("/")[2].removesuffix(".py")] += report.duration

    def pytest_terminal_summary(self, terminalreporter, exitstatus: int) -> None:
        """Keep what each file took; say which of the long ones a fresh clone would begin too late."""
        of_all = self.config.args_source == pytest.Config.ArgsSource.TESTPATHS
        if exitstatus > 1 or not of_all or self.config.option.keyword or self.config.option.markexpr:
            return
        if self.cache:
            self.cache.set(_KEPT, {name: round(seconds, 1) for name, seconds in self.took.items()})
        late = [n for n, s in self.took.most_common() if s > _LONG * self.took.total() and n not in LONGEST]
        if late:
            terminalreporter.write_line(f"tests/made/longest_first.py: LONGEST lacks {', '.join(late)}")
