"""The paper, Sec. III-A, Eqs. 3 to 5: from a recipe and two scans to a blended sample; arrays and numbers only."""
