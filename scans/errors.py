"""Mistakes of a user or of a file, each told in one sentence: what is wrong, where, what to do."""


class UserError(Exception):
    """Base of every error whose message is meant for the user; command lines print it without a traceback."""


class CatalogError(UserError):
    """A catalog, or a setting in it, is not as it must be."""


class ScanError(UserError):
    """A scan, or a mask that comes with it, cannot be used."""


class StoreError(UserError):
    """A sources store or a corpus is missing, damaged, or made by something else."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit."""
