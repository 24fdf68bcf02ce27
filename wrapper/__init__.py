"""Decorators for code that is not a pipeline yet: each call commits its code and its results.

:func:`wrapper.preprocess_wrapper.preprocess_wrapper` is for a function that makes tables,
:func:`wrapper.train_wrapper.train_wrapper` for a function that trains a model. Both commit to a
branch of the user's own repository without switching to it.
"""
