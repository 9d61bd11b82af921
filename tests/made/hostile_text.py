"""Texts of a stranger."""

from hypothesis import strategies as st

HOSTILE = [
    "<script>alert(1)</script>", "a | b | c", "two\nlines\n\n# heading", "![x](http://evil/x.png)", "[x](javascript:1)",
    "`code", "```", "&lt;b&gt; &amp;", "\\", "\\|", "*bold* _it_ ~~no~~ $x$", "- item", "1. one", "---", "<!-- hidden",
    "\u202etxet desrever", "\x00\x07", "\ud800", "", "  ", "$\\frac{", "\u2028x", "| --- |", "{{ x }}", "%(a)s ${b} $c",
]  # fmt: skip
texts = st.sampled_from(HOSTILE) | st.text(max_size=30) | st.text("<>|`*_[]()!#&\\$~-\n ab", max_size=20)
