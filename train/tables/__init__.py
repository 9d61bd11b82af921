"""The tables of the paper: which networks each needs, as data; running what is missing; gathering; writing.

``plan`` says what a table is, ``paper`` what was printed, ``steps`` how a cell becomes trainings and scores, ``runs``
carries them out, ``gather`` reads the scores, ``write`` and ``chart`` show them.
"""
