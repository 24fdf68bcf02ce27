"""Decorators for code that is not a pipeline yet: data, model and code of each call in one commit.

:func:`wrapper.preprocess_wrapper.preprocess_wrapper` is for a function that makes tables,
:func:`wrapper.train_wrapper.train_wrapper` for one that makes a model. Both commit to a branch of
the user's own repository without switching to it.
"""
