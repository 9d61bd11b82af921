"""Tables that rows are added to, wherever a crash cuts them off."""

from hypothesis import given
from hypothesis import strategies as st

from scans.csv_text import csv_text, rows_so_far

HEAD = ["case", "said"]
CELLS = st.text(st.sampled_from('ab",\nä🧠 '))


@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=4), data=st.data())
def test_a_table_that_was_cut_off_has_its_whole_rows_and_no_part_of_another(rows, data):
    contents = [csv_text([HEAD, *rows[:count]]).encode() for count in range(len(rows) + 1)]
    end = data.draw(st.integers(len(contents[0]), len(contents[-1])))
    whole = sum(len(content) <= end for content in contents) - 1
    assert rows_so_far(contents[-1][:end]) == ([HEAD, *rows[:whole]], len(contents[whole]) == end)
