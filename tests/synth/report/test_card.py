"""The data card: true numbers, terms united, text from outside shown and never obeyed, the same every time."""

import re
import shlex

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from scans.catalog.synthesis import Synthesis, override
from scans.catalog.terms import terms_of
from scans.markdown import bullets, clean, plain, table
from synth.corpus import Corpus
from synth.report.card import card_files
from synth.report.card_page import readme
from synth.report.distributions import distributions, distributions_png
from synth.report.generations import generations_of
from synth.report.montage import montage_png
from synth.report.permissions import common_licence, united
from tests.made.commands import synth
from tests.made.hostile_text import texts
from tests.made.retold_corpus import RetoldCorpus, with_sources
from tests.made.ways import way

parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.fixture(scope="module")
def corpus(corpus_path):
    return Corpus(corpus_path)


@pytest.fixture(scope="module")
def card(corpus):
    return card_files(corpus)


@pytest.fixture(scope="module")
def shown(corpus):
    return distributions(corpus, [each for _, each in generations_of(corpus)])


def front_matter(page):
    match = re.match(r"---\n(.*?)\n---\n", page, re.DOTALL)
    return yaml.safe_load(match[1])


def body(page):
    return page.split("\n---\n", 1)[1]


def words(inline):
    """Return what a reader sees of an inline token."""
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content for child in inline.children or [inline]
    )


def tables(page):
    """Return the rows of every table of a page, cells as text."""
    found, row = [], None
    for token in parser.parse(body(page)):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
            found[-1].append(row)
        elif token.type == "inline" and row is not None:
            row.append(words(token))
        elif token.type == "tr_close":
            row = None
    return found


def table_of(page, head):
    return next(rows for rows in tables(page) if rows[0][0] == head)


def kinds(page):
    """Return the types of all tokens of a page, those within lines too, but for plain text."""
    every = []
    for token in parser.parse(body(page)):
        every += [token.type, *(child.type for child in token.children or [] if child.type != "text")]
    return [kind for kind in every if kind != "text_special"]


def test_the_card_holds_a_page_two_pictures_and_metadata(card):
    assert list(card) == ["README.md", "card/samples.png", "card/distributions.png", "croissant.json"]
    for name in ("card/samples.png", "card/distributions.png"):
        assert card[name].startswith(b"\x89PNG")
        assert f"]({name})".encode() in card["README.md"]


def test_the_front_matter_is_what_dataset_hubs_read(card):
    front = front_matter(card["README.md"].decode())
    assert front["task_categories"] == ["image-segmentation"]
    assert front["size_categories"] == ["n<1K"]
    assert (front["license"], front["license_name"]) == ("other", "terms-of-the-sources")
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in front["tags"])


@pytest.mark.parametrize(("samples", "category"), [(1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M")])
def test_the_size_category_is_that_of_the_samples(corpus, shown, samples, category):
    many = RetoldCorpus(corpus, recipes=range(samples))
    assert front_matter(readme(many, generations_of(corpus), shown))["size_categories"] == [category]


@pytest.mark.parametrize(
    ("told", "licence"),
    [
        ({"licence": "CC BY 4.0"}, "cc-by-4.0"),
        ({"licence": ["CC BY 4.0", "CC-BY-4.0", "cc by 4.0"]}, "cc-by-4.0"),
        ({"licence": ["CC BY 4.0", "CC BY 4.0", "CC BY 3.0"]}, "other"),
        ({"licence": "CC BY 4.0", "redistribute_derived": [True, True, False]}, "other"),
        ({"licence": "CC BY-ND 4.0"}, "other"),
        ({"licence": "mixed (CC BY 4.0)"}, "other"),
    ],
)
def test_the_licence_is_named_only_if_all_sources_share_it(corpus, shown, told, licence):
    front = front_matter(readme(with_sources(corpus, **told), generations_of(corpus), shown))
    assert front["license"] == licence
    assert ("license_name" in front) == (licence == "other")


def test_numbers_are_those_of_the_corpus(corpus, card):
    page = card["README.md"].decode()
    numbers = dict(tables(page)[0])
    assert (numbers["samples"], numbers["scans"], numbers["seed"]) == ("22", "3", "7")
    assert (numbers["identity"], numbers["content"]) == (corpus.identity, corpus.content_hash)
    assert numbers["sides of a voxel in mm"] == "z 1.6, y 1.1 to 1.3, x 1.3"
    scans = table_of(page, "row")
    assert [row[1] for row in scans[1:]] == [source["name"] for source in corpus.sources]
    assert [int(row[4]) for row in scans[1:]] == [int((corpus.normal == position).sum()) for position in range(3)]
    assert [int(row[5]) for row in scans[1:]] == [int((corpus.donor == position).sum()) for position in range(3)]


def test_the_volume_of_a_tumour_is_that_of_its_mask(corpus, shown):
    volume = next(each for each in shown if each.name == "volume of the tumour")
    for index, sample in enumerate(corpus):
        voxels = sample.mask.sum() * np.prod(corpus.spacing_mm(index)) / 1000
        assert volume.values[index] == pytest.approx(voxels, rel=0.1)


def test_settings_that_differ_from_the_defaults_are_named(card):
    page = card["README.md"].decode()
    changed, everything = (rows for rows in tables(page) if rows[0] == ["setting", "value", "default"])
    assert changed[1:] == [["shape.volume_mm3", "[600, 6000]", "[7000, 200000]"]]
    assert len(everything) == 1 + 22


def test_generations_that_differ_have_a_column_each_and_share_only_equal_laws(corpus):
    first = generations_of(corpus)[0]
    other = way(override(first[1].settings, ["alpha=[0.4,0.5]"]))
    generations = [first, (8, other), (9, first[1])]
    both = distributions(corpus, [each for _, each in generations])
    page = readme(corpus, generations, both)
    changed = table_of(page, "setting")
    assert changed[0] == ["setting", "generation 1, 3", "generation 2", "default"]
    assert ["alpha", "[0.2, 0.8]", "[0.4, 0.5]", "[0.2, 0.8]"] in changed
    assert dict(tables(page)[0])["seeds"] == "7, 8, 9"
    laws = {each.name: each.law for each in both}
    assert laws["alpha"] is None
    assert str(laws["axis ratio q"]) == "uniform, 0.8 to 1"


def test_what_is_drawn_but_left_out_is_said(corpus):
    without = override(Synthesis(), ["blur.enabled=false"])
    assert "blur σ, drawn but not used" in [each.name for each in distributions(corpus, [way(without)])]


def test_the_commands_in_the_card_make_the_same_corpus(corpus, sources_path, tmp_path):
    other = override(generations_of(corpus)[0][1].settings, ["alpha=[0.3,0.6]", "shape.volume_law=log-uniform"])
    line = next(
        line
        for line in readme(corpus, [(7, way(other))], distributions(corpus, [way(other)])).splitlines()
        if line.startswith("synth generate")
    )
    arguments = shlex.split(line)[1:]
    places = {"sources.zarr": str(sources_path), "corpus.zarr": str(tmp_path / "c.zarr")}
    arguments = [places.get(argument, argument) for argument in arguments]
    done = synth(*arguments, "--workers", 0)
    assert done.returncode == 0, done.stderr
    again = Corpus(tmp_path / "c.zarr")
    assert generations_of(again) == [(7, way(other))]
    assert (len(again), again.shard_size) == (len(corpus), corpus.shard_size)


def test_a_card_is_the_same_every_time_and_has_no_date(corpus, card):
    assert card_files(corpus) == card
    for name in ("README.md", "croissant.json"):
        text = card[name].decode()
        assert not re.search(r"20\d\d-\d\d|\d\d:\d\d", text)
    for name in ("card/samples.png", "card/distributions.png"):
        assert not re.search(rb"tEXt|iTXt|tIME", card[name])


def test_a_user_s_own_style_changes_no_picture(corpus, card):
    from matplotlib import rc_context

    with rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.transparent": True}):
        assert card_files(corpus)["card/distributions.png"] == card["card/distributions.png"]


def test_a_card_reads_no_more_samples_than_it_shows(corpus):
    many = RetoldCorpus(
        corpus,
        recipes=np.resize(corpus.recipes, (50_000, corpus.recipes.shape[1])),
        normal=np.resize(corpus.normal, 50_000),
        donor=np.resize(corpus.donor, 50_000),
    )
    many.recipe = lambda index: corpus.recipe(index % len(corpus))
    many.generation = lambda index: corpus.generation(index % len(corpus))
    many.spacing_mm = lambda index: corpus.spacing_mm(index % len(corpus))
    assert "50,000 artificial tumours" in card_files(many, samples=4)["README.md"].decode()
    assert many.read == 4


def test_pictures_bear_any_name_and_constant_settings(corpus):
    odd = with_sources(corpus, name=["$\\frac{--$x^", "a\nb" * 40, "\ud800<b>"])
    assert montage_png(odd, [0, 1, 2], planes=1).startswith(b"\x89PNG")
    fixed = override(Synthesis(), ["shape.volume_mm3=[500,500]", "shape.volume_law=log-uniform", "alpha=[0.5,0.5]"])
    column = list(corpus.recipe(0))
    recipes = corpus.recipes.copy()
    recipes[:, [column.index(name) for name in ("drawn_volume_mm3", "volume_mm3")]] = 500
    recipes[:, column.index("kept")] = 1
    one = RetoldCorpus(corpus, recipes=recipes[:1], normal=corpus.normal[:1], donor=corpus.donor[:1])
    assert distributions_png(distributions(one, [way(fixed)])).startswith(b"\x89PNG")


@settings(deadline=None, max_examples=300)
@given(texts)
def test_escaped_text_is_shown_as_it_is(text):
    inside = parser.parse(f"| a |\n| --- |\n| x {plain(text)} |")
    assert [words(token) for token in inside if token.type == "inline"] == ["a", clean(f"x {clean(text)}")]
    assert not [token for token in inside if token.type.startswith("html")]
    (item,) = [token for token in parser.parse(bullets([text])) if token.type == "inline"] or [None]
    assert (words(item) if item else "") == clean(text)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_a_table_has_a_cell_for_every_text(rows):
    made = tables(f"---\n---\n{table(('one', 'two'), rows)}")
    assert made[0][1:] == [[clean(cell) or "–" for cell in row] for row in rows]


@settings(deadline=None, max_examples=60)
@given(st.fixed_dictionaries(dict.fromkeys(("name", "dataset", "licence", "terms", "citation"), texts)), texts)
def test_text_from_scans_changes_no_structure_of_the_card(corpus_path, told, region):
    corpus = Corpus(corpus_path)
    names = {**corpus.region, "name": region, "modality": region}
    shown = distributions(corpus, [each for _, each in generations_of(corpus)])

    def page(text, name):
        retold = with_sources(corpus, **text)
        retold.region = {**names, "name": name, "modality": name}
        return readme(retold, generations_of(corpus), shown)

    hostile, harmless = page(told, region), page(dict.fromkeys(told, "x"), "x")
    hostile.encode()
    assert kinds(hostile) == kinds(harmless)
    assert set(front_matter(hostile)) >= {"license", "pretty_name", "tags"}
    dataset = table_of(hostile, "dataset")[1]
    assert dataset[0] == (clean(told["dataset"]) or "–")
    assert dataset[2] == (clean(told["terms"]) or "–")


def source(dataset, licence="CC BY 4.0", derived=True, terms="be kind"):
    return {"dataset": dataset, "licence": licence, "terms": terms, "citation": "", "redistribute_derived": derived}


def answers(*sources):
    return {each.question: (each.answer, each.because) for each in united(terms_of(sources))}


def test_what_one_source_forbids_the_corpus_forbids():
    free, closed = source("free"), source("closed", derived=False)
    assert answers(free)["May it be passed on?"][0].startswith("Yes")
    assert answers(free)["May it be used commercially?"][0] == "Yes"
    assert answers(free, closed)["May it be passed on?"] == (
        "No: what is made from these scans is not to be passed on",
        ("closed",),
    )
    private = source("private", "CC BY-NC 4.0")
    assert answers(free, private)["May it be used commercially?"] == ("No", ("private",))
    told = source("told", "house rules", terms="Not commercial; ask first")
    assert answers(free, told)["May it be used commercially?"] == ("No", ("told",))
    assert answers(free, source("own", "house rules"))["May it be used commercially?"][0].startswith("Not before")


def test_share_alike_binds_the_corpus_and_contradictions_close_it():
    alike = source("alike", "CC BY-SA 4.0")
    assert answers(source("free"), alike)["Under which licence?"] == ("CC-BY-SA-4.0 only", ("alike",))
    for other in (source("other", "CC BY-NC-SA 4.0"), source("other", "CC BY-NC 4.0")):
        found = answers(alike, other)
        assert found["Under which licence?"][0].startswith("None fits all sources")
        assert found["May it be passed on?"][0].startswith("No")
        assert set(found["May it be passed on?"][1]) == {"alike", "other"}


licences = st.sampled_from(
    ["CC0", "CC BY 3.0", "CC BY-SA 4.0", "CC BY-NC 4.0", "CC BY-NC-SA 4.0", "CC BY-ND 4.0", "MIT", "house rules"]
)
sources_of_all_kinds = st.builds(source, st.sampled_from("abcd"), licences, st.booleans())


@given(st.lists(sources_of_all_kinds, min_size=1, max_size=4), st.lists(sources_of_all_kinds, max_size=3))
def test_no_further_source_allows_what_was_forbidden(some, more):
    for question in ("May it be passed on?", "May it be used commercially?"):
        if not answers(*some)[question][0].startswith("Yes"):
            assert not answers(*some, *more)[question][0].startswith("Yes")
    if common_licence(terms_of(some)) is None:
        assert common_licence(terms_of([*some, *more])) is None


def test_scans_under_the_same_terms_share_a_row(corpus):
    (terms,) = terms_of(corpus.sources)
    assert terms.sources == (0, 1, 2)
