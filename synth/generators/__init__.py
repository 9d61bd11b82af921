"""Generators: ways to draw a tumour and to make it; all else knows layers and columns, never which one it was."""
