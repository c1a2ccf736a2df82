"""Reads weights of other implementations of the network, with unknown names.

The authors announced their weights; when they appear, this package will read them. A `.pth` comes with its own names:

1. `vocabulary` interprets the words in a name; `matching` matches their convolutions with ours by shape, by these
   words and by order in the file, and reports what it could not decide.
2. If the other code is available, `user_module` builds its network and `activations` decides the rest by running both:
   tensors that compute the same are the same.
3. `patterns` writes the pairs to a names file that people can read and correct; `renaming` reads it.
4. `tracing` runs both networks convolution by convolution and reports where they first differ.

`multifocal convert` has a flag for each step; docs/interop.md is a walk-through.
"""
